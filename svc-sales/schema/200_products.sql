-- Categories, products, and the stock ledger: the quantity of a product is the sum of its movements.

CREATE TABLE category (
	tenant_id uuid NOT NULL,
	id uuid NOT NULL,
	seq bigint NOT NULL,
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	created_by uuid,
	updated_at timestamptz NOT NULL DEFAULT now(),
	updated_by uuid,
	deleted_at timestamptz,
	name text NOT NULL,
	name_key text GENERATED ALWAYS AS (lower(name)) STORED,
	description text,
	parent_id uuid,
	is_active boolean NOT NULL DEFAULT true,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT category_seq_unique UNIQUE (tenant_id, seq)
);
CREATE UNIQUE INDEX category_name_unique ON category (tenant_id, name_key) WHERE deleted_at IS NULL;

CREATE TABLE product (
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
	name text NOT NULL,
	sku text,
	description text,
	category_id uuid,
	category_name text,
	price numeric,
	cost numeric,
	stock_quantity bigint NOT NULL DEFAULT 0,
	reorder_level bigint,
	low_stock boolean GENERATED ALWAYS AS (reorder_level IS NOT NULL AND stock_quantity <= reorder_level) STORED,
	status text NOT NULL DEFAULT 'active',
	images text[] NOT NULL DEFAULT '{}',
	attributes jsonb NOT NULL DEFAULT '{}',
	owner_id uuid,
	search text GENERATED ALWAYS AS (lower(name || ' ' || coalesce(sku, '') || ' ' || coalesce(description, ''))) STORED,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT product_seq_unique UNIQUE (tenant_id, seq),
	CONSTRAINT product_stock CHECK (stock_quantity >= 0)
);
CREATE UNIQUE INDEX product_sku_unique ON product (tenant_id, sku) WHERE deleted_at IS NULL;
CREATE INDEX product_list ON product (tenant_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX product_category ON product (tenant_id, category_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX product_status ON product (tenant_id, status, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX product_low ON product (tenant_id, created_at DESC, id DESC) WHERE deleted_at IS NULL AND low_stock;
CREATE INDEX product_name ON product (tenant_id, name, id) WHERE deleted_at IS NULL;

CREATE TABLE stock_movement (
	tenant_id uuid NOT NULL,
	id uuid NOT NULL DEFAULT gen_random_uuid(),
	seq bigint NOT NULL,
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	created_by uuid,
	updated_at timestamptz NOT NULL DEFAULT now(),
	updated_by uuid,
	product_id uuid NOT NULL,
	kind text NOT NULL,
	quantity bigint NOT NULL,
	reason text,
	unit_cost numeric,
	balance bigint NOT NULL,
	order_id uuid,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT stock_movement_seq_unique UNIQUE (tenant_id, seq)
);
CREATE INDEX stock_movement_product ON stock_movement (tenant_id, product_id, created_at DESC, id DESC);

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['category', 'product', 'stock_movement'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY tenant ON %I TO {{schema}}_app USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', t);
		EXECUTE format('GRANT SELECT, INSERT ON %I TO {{schema}}_app', t);
	END LOOP;
	GRANT UPDATE ON category, product TO {{schema}}_app; -- movements stay
END $$;

-- One number of a kind, for rows that triggers make. Holds the tenant's counter until commit.
CREATE FUNCTION seq_one(tenant uuid, what text) RETURNS bigint LANGUAGE sql SET search_path = {{schema}}, pg_temp AS $$
	INSERT INTO seq_block AS b (tenant_id, kind, next) VALUES (tenant, what, 2) ON CONFLICT (tenant_id, kind) DO UPDATE SET next = b.next + 1 RETURNING next - 1
$$;

-- -- categories

CREATE FUNCTION category_before() RETURNS trigger LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $$
DECLARE at uuid := NEW.parent_id;
BEGIN
	NEW.is_active := coalesce(NEW.is_active, true);
	FOR level IN 1..8 LOOP
		EXIT WHEN at IS NULL;
		IF at = NEW.id THEN
			RAISE EXCEPTION 'would be under itself' USING ERRCODE = 'CR422', COLUMN = 'parent', CONSTRAINT = 'tree';
		END IF;
		SELECT c.parent_id INTO at FROM category c WHERE c.id = at AND c.deleted_at IS NULL;
	END LOOP;
	IF at IS NOT NULL THEN
		RAISE EXCEPTION 'would be more than 8 levels deep' USING ERRCODE = 'CR422', COLUMN = 'parent', CONSTRAINT = 'tree';
	END IF;
	IF TG_OP = 'UPDATE' AND NEW.deleted_at IS NOT NULL AND (EXISTS (SELECT FROM product p WHERE p.category_id = OLD.id AND p.deleted_at IS NULL)
		OR EXISTS (SELECT FROM category c WHERE c.parent_id = OLD.id AND c.deleted_at IS NULL)) THEN
		RAISE EXCEPTION 'The category "%" is not empty', OLD.name USING ERRCODE = 'CR409';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER category_before BEFORE INSERT OR UPDATE ON category FOR EACH ROW EXECUTE FUNCTION category_before();

CREATE FUNCTION category_renamed() RETURNS trigger LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $$
BEGIN
	UPDATE product SET category_name = NEW.name WHERE category_id = NEW.id;
	RETURN NULL;
END $$;
CREATE TRIGGER category_renamed AFTER UPDATE ON category FOR EACH ROW WHEN (NEW.name <> OLD.name) EXECUTE FUNCTION category_renamed();

-- The category of this name; a new name makes one, with its event.
CREATE FUNCTION category_named(tenant uuid, wanted text, actor uuid) RETURNS uuid LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $$
DECLARE c category;
BEGIN
	SELECT * INTO c FROM category k WHERE k.name_key = lower(wanted) AND k.deleted_at IS NULL;
	IF FOUND THEN
		RETURN c.id;
	END IF;
	INSERT INTO category AS k (tenant_id, id, seq, name, created_by, updated_by) VALUES (tenant, gen_random_uuid(), seq_one(tenant, 'category'), wanted, actor, actor)
		ON CONFLICT (tenant_id, name_key) WHERE deleted_at IS NULL DO UPDATE SET name = k.name RETURNING * INTO c;
	INSERT INTO outbox (event_id, tenant_id, type, entity, entity_id, entity_seq, version, after, user_id)
		VALUES (gen_random_uuid(), tenant, '{{schema}}.category.created', 'category', c.id, c.seq, c.version, to_jsonb(c) - 'name_key', actor);
	RETURN c.id;
END $$;

-- -- products

CREATE FUNCTION product_before() RETURNS trigger LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $$
DECLARE
	by_name boolean;
BEGIN
	NEW.status := coalesce(NEW.status, 'active');
	NEW.stock_quantity := coalesce(NEW.stock_quantity, CASE WHEN TG_OP = 'UPDATE' THEN OLD.stock_quantity ELSE 0 END);
	NEW.images := coalesce(NEW.images, '{}');
	NEW.attributes := coalesce(NEW.attributes, '{}');
	NEW.sku := NULLIF(btrim(NEW.sku), '');
	IF TG_OP = 'INSERT' THEN
		NEW.owner_id := coalesce(NEW.owner_id, NEW.created_by);
		by_name := NEW.category_id IS NULL AND NEW.category_name IS NOT NULL;
	ELSE
		by_name := NEW.category_id IS NOT DISTINCT FROM OLD.category_id AND NEW.category_name IS DISTINCT FROM OLD.category_name;
	END IF;
	IF by_name THEN
		NEW.category_name := NULLIF(btrim(NEW.category_name), '');
		NEW.category_id := CASE WHEN NEW.category_name IS NOT NULL THEN category_named(NEW.tenant_id, NEW.category_name, NEW.updated_by) END;
	END IF;
	NEW.category_name := (SELECT c.name FROM category c WHERE c.id = NEW.category_id AND c.deleted_at IS NULL);
	RETURN NEW;
END $$;
CREATE TRIGGER product_before BEFORE INSERT OR UPDATE ON product FOR EACH ROW EXECUTE FUNCTION product_before();

-- A quantity that was written is a movement like any other; stock_move writes its own. Once per crossing of the reorder level there is an event.
CREATE FUNCTION product_after() RETURNS trigger LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $$
DECLARE
	was bigint := CASE WHEN TG_OP = 'UPDATE' THEN OLD.stock_quantity ELSE 0 END;
	was_low boolean := TG_OP = 'UPDATE' AND OLD.low_stock;
BEGIN
	IF NEW.stock_quantity <> was AND coalesce(current_setting('app.stock_move', true), '') = '' THEN
		INSERT INTO stock_movement (tenant_id, seq, product_id, kind, quantity, reason, unit_cost, balance, created_by, updated_by)
		VALUES (NEW.tenant_id, seq_one(NEW.tenant_id, 'stock_movement'), NEW.id, CASE TG_OP WHEN 'INSERT' THEN 'restock' ELSE 'adjustment' END, NEW.stock_quantity - was,
			CASE TG_OP WHEN 'INSERT' THEN 'Initial stock' ELSE 'Quantity was set' END, CASE TG_OP WHEN 'INSERT' THEN NEW.cost END, NEW.stock_quantity, NEW.updated_by, NEW.updated_by);
	END IF;
	IF NEW.low_stock AND NOT was_low AND TG_OP = 'UPDATE' AND NEW.deleted_at IS NULL THEN
		INSERT INTO outbox (event_id, tenant_id, type, entity, entity_id, entity_seq, version, before, after, user_id)
		VALUES (gen_random_uuid(), NEW.tenant_id, '{{schema}}.product.stock_low', 'product', NEW.id, NEW.seq, NEW.version, to_jsonb(OLD) - 'search', to_jsonb(NEW) - 'search', NEW.updated_by);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER product_after AFTER INSERT OR UPDATE ON product FOR EACH ROW EXECUTE FUNCTION product_after();

-- Moves the stock of a product, which is locked, and keeps the moving average of its cost. CR409 when there is not enough, with what is left.
CREATE FUNCTION stock_move(tenant uuid, what uuid, move_kind text, amount bigint, cost_each numeric, why text, for_order uuid, actor uuid) RETURNS product LANGUAGE plpgsql
SET search_path = {{schema}}, pg_temp AS $$
DECLARE p product;
BEGIN
	SELECT * INTO p FROM product t WHERE t.id = what FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'does not exist' USING ERRCODE = 'CR422', COLUMN = 'product', CONSTRAINT = 'exists';
	END IF;
	IF p.stock_quantity + amount < 0 THEN
		RAISE EXCEPTION 'Only % of "%" are in stock', p.stock_quantity, p.name USING ERRCODE = 'CR409';
	END IF;
	PERFORM set_config('app.stock_move', 'on', true);
	UPDATE product t SET stock_quantity = t.stock_quantity + amount, version = t.version + 1, updated_at = now(), updated_by = actor,
		cost = CASE WHEN move_kind = 'restock' AND cost_each IS NOT NULL AND amount > 0
			THEN round((t.stock_quantity * coalesce(t.cost, cost_each) + amount * cost_each) / (t.stock_quantity + amount), 4) ELSE t.cost END
		WHERE t.id = what RETURNING * INTO p;
	PERFORM set_config('app.stock_move', '', true);
	INSERT INTO stock_movement (tenant_id, seq, product_id, kind, quantity, reason, unit_cost, balance, order_id, created_by, updated_by)
	VALUES (tenant, seq_one(tenant, 'stock_movement'), what, move_kind, amount, why, cost_each, p.stock_quantity, for_order, actor, actor);
	RETURN p;
END $$;

-- -- lines of deals

-- The lines with their products found, names, prices and totals filled in.
CREATE FUNCTION lines_priced(lines jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE SET search_path = {{schema}}, pg_temp AS $$
DECLARE
	out jsonb := '[]';
	l jsonb;
	n integer := 0;
	p product;
	q numeric;
	price numeric;
BEGIN
	FOR l IN SELECT * FROM jsonb_array_elements(lines) LOOP
		p := NULL;
		IF l->'product' <> '{}' THEN
			SELECT * INTO p FROM product t WHERE t.deleted_at IS NULL AND CASE WHEN l->'product' ? 'id' THEN t.id = (l->'product'->>'id')::uuid ELSE t.seq = (l->'product'->>'seq')::bigint END;
			IF NOT FOUND THEN
				RAISE EXCEPTION 'does not exist' USING ERRCODE = 'CR422', COLUMN = format('lines.%s.product', n), CONSTRAINT = 'exists';
			END IF;
			l := l || jsonb_build_object('product', jsonb_build_object('id', p.id, 'seq', p.seq, 'name', p.name));
		ELSE
			l := l - 'product';
		END IF;
		q := coalesce((l->>'quantity')::numeric, 1);
		price := coalesce((l->>'unit_price')::numeric, p.price, 0);
		out := out || jsonb_build_array(l || jsonb_strip_nulls(jsonb_build_object('name', coalesce(l->>'name', p.name), 'quantity', q, 'unit_price', price,
			'total', round(q * price * (100 - coalesce((l->>'discount')::numeric, 0)) / 100, 2))));
		n := n + 1;
	END LOOP;
	RETURN out;
END $$;
