-- The log in monthly partitions by the time of the event; legal holds on a tenant or on one of its resources.

-- What is there becomes the first partition as it is: no row is copied, none can be lost. Under forced row-level security the owner
-- sees nothing, so for the look at the newest time it is not forced.
ALTER TABLE entry NO FORCE ROW LEVEL SECURITY;
DROP FUNCTION security_text(entry, text);
DROP TRIGGER append_only ON entry;
DROP TRIGGER append_only_all ON entry;
DROP POLICY tenant ON entry;
ALTER TABLE entry RENAME TO entry_first;
ALTER TABLE entry_first DROP CONSTRAINT entry_pkey, DROP CONSTRAINT entry_tenant_id_id_key;
ALTER INDEX entry_time RENAME TO entry_first_time;
ALTER INDEX entry_resource RENAME TO entry_first_resource;
ALTER INDEX entry_user RENAME TO entry_first_user;
ALTER INDEX entry_search RENAME TO entry_first_search;

CREATE TABLE entry (LIKE entry_first INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS) PARTITION BY RANGE (created_at);

DO $$
DECLARE bound timestamptz;
BEGIN
	SELECT date_trunc('month', greatest(now(), max(created_at)), 'UTC') + interval '1 month' INTO bound FROM entry_first;
	EXECUTE format('ALTER TABLE entry ATTACH PARTITION entry_first FOR VALUES FROM (MINVALUE) TO (%L)', bound);
END $$;
-- An entry from a clock that is far ahead. Monthly ones are made before their time comes, so this stays empty.
CREATE TABLE entry_other PARTITION OF entry DEFAULT;

-- seq and id are unique in the tenant because one writer at a time appends to a chain and the inbox knows ids; verifying finds it if not.
ALTER TABLE entry ADD PRIMARY KEY (tenant_id, seq, created_at), ADD UNIQUE (tenant_id, id, created_at);
CREATE INDEX entry_time ON entry (tenant_id, created_at, id);
CREATE INDEX entry_resource ON entry (tenant_id, resource, resource_id, seq);
CREATE INDEX entry_user ON entry (tenant_id, user_id, seq);
CREATE INDEX entry_search ON entry USING gin (tenant_id, search extensions.gin_trgm_ops);

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'DELETE' AND starts_with(TG_TABLE_NAME, 'entry') AND current_user = '{{schema}}_search' THEN
		IF OLD.seq <= (SELECT max(c.seq) FROM {{schema}}.chain_cut c WHERE c.tenant_id = OLD.tenant_id) THEN
			RETURN OLD;
		END IF;
	END IF;
	RAISE EXCEPTION 'the audit log only grows' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON entry FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only_all BEFORE TRUNCATE ON entry FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The same wall around the whole and around each part.
CREATE FUNCTION entry_protect(part text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
	EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', part);
	EXECUTE format('CREATE POLICY tenant ON %I TO {{schema}}_app USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', part);
	IF part <> 'entry' THEN
		EXECUTE format('CREATE TRIGGER append_only_all BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', part);
		EXECUTE format('REVOKE ALL ON %I FROM {{schema}}_app', part);
		EXECUTE format('GRANT SELECT ON %I TO {{schema}}_search', part);
	END IF;
END $$;
SELECT entry_protect(p) FROM unnest(ARRAY['entry', 'entry_first', 'entry_other']) p;
GRANT SELECT, INSERT ON entry TO {{schema}}_app;
GRANT SELECT, DELETE ON entry TO {{schema}}_search;

CREATE FUNCTION security_text(e entry, text text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE WHEN e.type LIKE 'audit.access.%' THEN
		text || format(' (%s%s times)', coalesce(nullif(e.after->>'reason', '') || ', ', ''), e.after->>'count') ELSE text END
$$;

-- Which partitions there are, and up to which time.
CREATE VIEW entry_partition AS
	SELECT c.relname AS name, (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''([^'']+)''\)'))[1]::timestamptz AS upto
	FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = '{{schema}}.entry'::regclass;
GRANT SELECT ON entry_partition TO {{schema}}_app;

-- Is the partition without rows of any tenant? By a role that sees them.
CREATE FUNCTION entry_partition_empty(part text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $$
DECLARE found boolean;
BEGIN
	EXECUTE format('SELECT EXISTS (SELECT FROM %I)', part) INTO found;
	RETURN NOT found;
END $$;
REVOKE ALL ON FUNCTION entry_partition_empty(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION entry_partition_empty(text) TO {{schema}}_owner;
ALTER FUNCTION entry_partition_empty(text) OWNER TO {{schema}}_search;

-- Makes the partitions of the next two months, and drops those of past months that retention has emptied. Called every hour by whichever
-- instance comes first; what it cannot lock within a second it leaves to the next call. Gives how many were made and dropped.
CREATE FUNCTION entry_partitions_keep() RETURNS TABLE (made int, dropped int) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = {{schema}}, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
	p record;
	last timestamptz;
	name text;
BEGIN
	made := 0;
	dropped := 0;
	IF NOT pg_try_advisory_xact_lock(hashtext('{{schema}}.entry_partitions_keep')) THEN
		RETURN NEXT;
		RETURN;
	END IF;
	SELECT max(upto) INTO last FROM entry_partition;
	WHILE last <= now() + interval '2 months' LOOP
		name := 'entry_' || to_char(last AT TIME ZONE 'UTC', 'YYYY_MM');
		EXECUTE format('CREATE TABLE %I PARTITION OF entry FOR VALUES FROM (%L) TO (%L)', name, last, last + interval '1 month');
		PERFORM entry_protect(name);
		last := last + interval '1 month';
		made := made + 1;
	END LOOP;
	FOR p IN SELECT e.name FROM entry_partition e WHERE e.upto < now() AND entry_partition_empty(e.name) LOOP
		EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', p.name);
		IF entry_partition_empty(p.name) THEN
			EXECUTE format('DROP TABLE %I', p.name);
			dropped := dropped + 1;
		END IF;
	END LOOP;
	RETURN NEXT;
END $$;
REVOKE ALL ON FUNCTION entry_partitions_keep() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION entry_partitions_keep() TO {{schema}}_app;
SELECT entry_partitions_keep();

-- Nothing that a hold covers is removed or erased: everything of the tenant, all of one kind of resource, or one of them.
CREATE TABLE legal_hold (
	tenant_id uuid NOT NULL,
	id uuid NOT NULL,
	seq bigint NOT NULL,
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	created_by uuid,
	updated_at timestamptz NOT NULL DEFAULT now(),
	updated_by uuid,
	deleted_at timestamptz,  -- released
	name text NOT NULL,
	resource text,
	resource_id uuid,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT legal_hold_seq_unique UNIQUE (tenant_id, seq),
	CONSTRAINT legal_hold_resource_present CHECK (resource_id IS NULL OR resource IS NOT NULL)
);
CREATE INDEX legal_hold_time ON legal_hold (tenant_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
ALTER TABLE legal_hold ENABLE ROW LEVEL SECURITY;
ALTER TABLE legal_hold FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON legal_hold TO {{schema}}_app USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE ON legal_hold TO {{schema}}_app;

INSERT INTO security_type VALUES
	('audit.legal_hold.created', 'legal_hold', 'medium', 'A legal hold was set'),
	('audit.legal_hold.deleted', 'legal_hold', 'medium', 'A legal hold was released')
ON CONFLICT DO NOTHING;
