-- Orders: numbered without gaps, priced by the server, moved along by one table of legal steps; they take stock and give it back.

CREATE TABLE orders (
	tenant_id uuid NOT NULL,
	id uuid NOT NULL,
	seq bigint NOT NULL,
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	created_by uuid,
	updated_at timestamptz NOT NULL DEFAULT now(),
	updated_by uuid,
	deleted_at timestamptz,
	custom_fields jsonb NOT NULL DEFAULT '{}',
	number text NOT NULL,
	account_id uuid,
	items jsonb NOT NULL,
	status text NOT NULL DEFAULT 'pending',
	total numeric NOT NULL,
	street text,
	city text,
	state text,
	zip text,
	country text,
	notes text,
	tracking_number text,
	status_changed_at timestamptz NOT NULL DEFAULT now(),
	search text GENERATED ALWAYS AS (lower(number || ' ' || coalesce(tracking_number, '') || ' ' || coalesce(notes, ''))) STORED,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT orders_seq_unique UNIQUE (tenant_id, seq),
	CONSTRAINT orders_number_unique UNIQUE (tenant_id, number)
);
CREATE INDEX orders_list ON orders (tenant_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX orders_status ON orders (tenant_id, status, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX orders_account ON orders (tenant_id, account_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
ALTER TABLE orders FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON orders TO {{schema}}_app USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE ON orders TO {{schema}}_app;

-- The legal steps; the order of the rows is how they are named.
CREATE TABLE order_step (
	n integer PRIMARY KEY,
	at text NOT NULL,
	next text NOT NULL,
	gives_back boolean NOT NULL DEFAULT false -- the stock
);
GRANT SELECT ON order_step TO {{schema}}_app;
INSERT INTO order_step (n, at, next, gives_back) VALUES
	(1, 'pending', 'confirmed', false), (2, 'pending', 'processing', false), (3, 'pending', 'cancelled', true),
	(4, 'confirmed', 'processing', false), (5, 'confirmed', 'shipped', false), (6, 'confirmed', 'cancelled', true),
	(7, 'processing', 'shipped', false), (8, 'processing', 'cancelled', true),
	(9, 'shipped', 'delivered', false), (10, 'shipped', 'returned', true),
	(11, 'delivered', 'returned', true);

-- Prices and takes the stock; products are locked in the order of their ids, so that two orders never wait for each other in a circle.
CREATE FUNCTION order_before_insert() RETURNS trigger LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $$
DECLARE
	i jsonb;
	n integer := 0;
	p product;
	line record;
	price numeric;
	priced jsonb := '[]';
BEGIN
	IF jsonb_array_length(coalesce(NEW.items, '[]')) = 0 THEN
		RAISE EXCEPTION 'is required' USING ERRCODE = 'CR422', COLUMN = 'items', CONSTRAINT = 'required';
	END IF;
	IF coalesce(NEW.status, 'pending') <> 'pending' THEN
		RAISE EXCEPTION 'must be pending for a new order' USING ERRCODE = 'CR422', COLUMN = 'status', CONSTRAINT = 'in';
	END IF;
	NEW.status := 'pending';
	FOR i IN SELECT * FROM jsonb_array_elements(NEW.items) LOOP
		SELECT * INTO p FROM product t WHERE t.deleted_at IS NULL AND CASE WHEN i->'product' ? 'id' THEN t.id = (i->'product'->>'id')::uuid ELSE t.seq = (i->'product'->>'seq')::bigint END;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'does not exist' USING ERRCODE = 'CR422', COLUMN = format('items.%s.product', n), CONSTRAINT = 'exists';
		END IF;
		IF p.status <> 'active' THEN
			RAISE EXCEPTION 'is %: it cannot be ordered', p.status USING ERRCODE = 'CR422', COLUMN = format('items.%s.product', n), CONSTRAINT = 'active';
		END IF;
		price := coalesce((i->>'unit_price')::numeric, p.price);
		IF price IS NULL THEN
			RAISE EXCEPTION 'is required: the product has no price' USING ERRCODE = 'CR422', COLUMN = format('items.%s.unit_price', n), CONSTRAINT = 'required';
		END IF;
		priced := priced || jsonb_build_array(jsonb_strip_nulls(jsonb_build_object('product', jsonb_build_object('id', p.id, 'seq', p.seq, 'name', p.name),
			'quantity', (i->>'quantity')::bigint, 'unit_price', price, 'name', p.name, 'sku', p.sku, 'total', round((i->>'quantity')::bigint * price, 2))));
		n := n + 1;
	END LOOP;
	NEW.items := priced;
	NEW.total := (SELECT sum((x->>'total')::numeric) FROM jsonb_array_elements(priced) x);
	FOR line IN SELECT (x->'product'->>'id')::uuid AS id, sum((x->>'quantity')::bigint)::bigint AS amount FROM jsonb_array_elements(priced) x GROUP BY 1 ORDER BY 1 LOOP
		PERFORM stock_move(NEW.tenant_id, line.id, 'sale', -line.amount, NULL, 'Order', NEW.id, NEW.created_by);
	END LOOP;
	-- last: everybody of the tenant who orders waits here until this one has ended
	NEW.number := 'ORD-' || lpad(seq_one(NEW.tenant_id, 'order_number')::text, 6, '0');
	RETURN NEW;
END $$;
CREATE TRIGGER order_before_insert BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION order_before_insert();

CREATE FUNCTION order_before_update() RETURNS trigger LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $$
DECLARE
	step order_step;
	line record;
BEGIN
	NEW.status := coalesce(NEW.status, OLD.status);
	IF NEW.items IS DISTINCT FROM OLD.items THEN
		RAISE EXCEPTION 'cannot be changed' USING ERRCODE = 'CR422', COLUMN = 'items', CONSTRAINT = 'read_only';
	END IF;
	IF NEW.status = OLD.status THEN
		RETURN NEW;
	END IF;
	SELECT * INTO step FROM order_step s WHERE s.at = OLD.status AND s.next = NEW.status;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'An order that is % can become %', OLD.status,
			coalesce((SELECT string_agg(s.next, ', ' ORDER BY s.n) FROM order_step s WHERE s.at = OLD.status), 'nothing else') USING ERRCODE = 'CR409';
	END IF;
	IF NEW.status = 'shipped' AND coalesce(NEW.tracking_number, '') = '' THEN
		RAISE EXCEPTION 'is required to ship' USING ERRCODE = 'CR422', COLUMN = 'tracking_number', CONSTRAINT = 'required';
	END IF;
	NEW.status_changed_at := now();
	IF step.gives_back THEN
		FOR line IN SELECT (x->'product'->>'id')::uuid AS id, sum((x->>'quantity')::bigint)::bigint AS amount FROM jsonb_array_elements(NEW.items) x GROUP BY 1 ORDER BY 1 LOOP
			PERFORM stock_move(NEW.tenant_id, line.id, 'return', line.amount, NULL, 'Order ' || NEW.status, NEW.id, NEW.updated_by);
		END LOOP;
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER order_before_update BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION order_before_update();
