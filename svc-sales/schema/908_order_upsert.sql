-- An order that another system sends again is the same order: its lines and its customer stay. They may be sent as at first, without what the server has made of them.
CREATE FUNCTION order_lines(items jsonb) RETURNS jsonb LANGUAGE sql STABLE SET search_path = {{schema}}, pg_temp AS $$
	SELECT coalesce(jsonb_agg(jsonb_build_array(coalesce((i->'product'->>'seq')::bigint, (SELECT p.seq FROM product p WHERE p.id = (i->'product'->>'id')::uuid)),
		(i->>'quantity')::bigint, (i->>'unit_price')::numeric) ORDER BY n), '[]')
	FROM jsonb_array_elements(items) WITH ORDINALITY x(i, n)
$$;

-- Of the lines as sent (a) and as stored (b): the same products and quantities, and the same prices where some are sent.
CREATE FUNCTION order_same_lines(a jsonb, b jsonb) RETURNS boolean LANGUAGE sql STABLE SET search_path = {{schema}}, pg_temp AS $$
	SELECT jsonb_array_length(x) = jsonb_array_length(y)
		AND NOT EXISTS (SELECT FROM generate_series(0, jsonb_array_length(x) - 1) n
			WHERE x->n->0 IS DISTINCT FROM y->n->0 OR x->n->1 IS DISTINCT FROM y->n->1 OR (x->n->>2 IS NOT NULL AND x->n->2 IS DISTINCT FROM y->n->2))
	FROM order_lines(a) x, order_lines(b) y
$$;

CREATE FUNCTION order_stays() RETURNS trigger LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $$
BEGIN
	IF NEW.items IS DISTINCT FROM OLD.items AND order_same_lines(NEW.items, OLD.items) THEN
		NEW.items := OLD.items;
	END IF;
	IF NEW.account_id IS DISTINCT FROM OLD.account_id THEN
		RAISE EXCEPTION 'cannot be changed' USING ERRCODE = 'CR422', COLUMN = 'account', CONSTRAINT = 'read_only';
	END IF;
	RETURN NEW;
END $$;
-- By name before order_before_update, which refuses lines that differ.
CREATE TRIGGER order_a_stays BEFORE UPDATE OF items, account_id ON orders FOR EACH ROW EXECUTE FUNCTION order_stays();
