-- Jobs and what each of their things came to (lib/jobs/jobs.h).
CALL entity_table('job', 'kind text NOT NULL, state text NOT NULL DEFAULT ''queued'', total bigint NOT NULL DEFAULT 0, done bigint NOT NULL DEFAULT 0, failed bigint NOT NULL DEFAULT 0,
	percent bigint GENERATED ALWAYS AS (CASE WHEN total > 0 THEN (done + failed) * 100 / total ELSE 100 END) STORED, rate bigint, started_at timestamptz, finished_at timestamptz, error text,
	position bigint NOT NULL DEFAULT 0, payload bytea, caller jsonb, attempts int NOT NULL DEFAULT 0, lease_by uuid, lease_until timestamptz');
CALL entity_name('job', 'r.kind');
-- what was asked for (payload) and by whom (caller) is kept no longer than it is needed: there may be personal data in it
CREATE INDEX job_open ON job (created_at) WHERE state IN ('queued', 'running');

CREATE TABLE job_item (
	tenant_id uuid NOT NULL,
	id uuid NOT NULL DEFAULT gen_random_uuid(),
	seq bigint GENERATED ALWAYS AS IDENTITY,
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	created_by uuid,
	updated_at timestamptz NOT NULL DEFAULT now(),
	updated_by uuid,
	job_id uuid NOT NULL,
	position bigint NOT NULL,
	entity_id uuid,           -- NULL: there is no such entity
	state text NOT NULL DEFAULT 'waiting',
	code text,
	message text,
	field text,
	PRIMARY KEY (tenant_id, job_id, position)
);

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['job_item'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY tenant ON %I TO {{schema}}_app USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', t);
		EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO {{schema}}_app', t);
	END LOOP;
END $$;

-- What is over cannot be cancelled.
CREATE FUNCTION job_states() RETURNS trigger LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $$
BEGIN
	IF NEW.state = 'cancelled' THEN
		IF OLD.state NOT IN ('queued', 'running') THEN
			RAISE EXCEPTION 'The job is over already: it is %', OLD.state USING ERRCODE = 'CR409';
		END IF;
		NEW.finished_at := clock_timestamp();
		NEW.payload := NULL;
		NEW.caller := NULL;
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER job_states BEFORE UPDATE OF state ON job FOR EACH ROW EXECUTE FUNCTION job_states();

-- Workers look at the jobs of all tenants and take one; what they do then they do as its tenant, behind row-level security.
GRANT SELECT, UPDATE ON job TO {{schema}}_search;
CREATE FUNCTION job_claim(worker uuid, seconds int) RETURNS TABLE (tenant uuid, job uuid, scope text) LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = {{schema}}, pg_temp AS $$
	UPDATE job j SET state = 'running', started_at = coalesce(j.started_at, clock_timestamp()), lease_by = worker, attempts = j.attempts + 1,
		lease_until = clock_timestamp() + seconds * interval '1 second', version = j.version + 1, updated_at = now()
	FROM (SELECT o.tenant_id, o.id FROM job o WHERE o.state IN ('queued', 'running') AND (o.state = 'queued' OR o.lease_until < clock_timestamp())
		ORDER BY o.created_at LIMIT 1 FOR UPDATE SKIP LOCKED) n
	WHERE j.tenant_id = n.tenant_id AND j.id = n.id RETURNING j.tenant_id, j.id, coalesce(j.caller->>'scope', '')
$$;
REVOKE ALL ON FUNCTION job_claim(uuid, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION job_claim(uuid, int) TO {{schema}}_app;
ALTER FUNCTION job_claim(uuid, int) OWNER TO {{schema}}_search;
