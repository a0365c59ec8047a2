-- Work in the background, for services that have it (lib/jobs/jobs.h, lib/resource/import.c):
--   CALL entity_jobs();
-- Makes job, job_item and blob_queue; where job is there already, what imports need of it.
CREATE PROCEDURE entity_jobs_base() LANGUAGE plpgsql AS $$
BEGIN
	CALL entity_table('job', 'kind text NOT NULL, state text NOT NULL DEFAULT ''queued'', total bigint NOT NULL DEFAULT 0, done bigint NOT NULL DEFAULT 0, failed bigint NOT NULL DEFAULT 0,
		percent bigint GENERATED ALWAYS AS (CASE WHEN total > 0 THEN (done + failed) * 100 / total ELSE 100 END) STORED, rate bigint, started_at timestamptz, finished_at timestamptz, error text,
		position bigint NOT NULL DEFAULT 0, payload bytea, caller jsonb, attempts int NOT NULL DEFAULT 0, lease_by uuid, lease_until timestamptz');
	CALL entity_name('job', 'r.kind');
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
		entity_id uuid,
		state text NOT NULL DEFAULT 'waiting',
		code text,
		message text,
		field text,
		PRIMARY KEY (tenant_id, job_id, position)
	);
	ALTER TABLE job_item ENABLE ROW LEVEL SECURITY;
	ALTER TABLE job_item FORCE ROW LEVEL SECURITY;
	CREATE POLICY tenant ON job_item TO {{schema}}_app USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid)
		WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);
	GRANT SELECT, INSERT, UPDATE ON job_item TO {{schema}}_app;
	CREATE FUNCTION job_states() RETURNS trigger LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $f$ BEGIN RETURN NEW; END $f$;
	CREATE TRIGGER job_states BEFORE UPDATE OF state ON job FOR EACH ROW EXECUTE FUNCTION job_states();
	-- Workers look at the jobs of all tenants and take one; what they do then they do as its tenant, behind row-level security.
	GRANT SELECT, UPDATE ON job TO {{schema}}_search;
	CREATE FUNCTION job_claim(worker uuid, seconds int) RETURNS TABLE (tenant uuid, job uuid, scope text) LANGUAGE sql VOLATILE SECURITY DEFINER
	SET search_path = {{schema}}, pg_temp AS $f$
		UPDATE job j SET state = 'running', started_at = coalesce(j.started_at, clock_timestamp()), lease_by = worker, attempts = j.attempts + 1,
			lease_until = clock_timestamp() + seconds * interval '1 second', version = j.version + 1, updated_at = now()
		FROM (SELECT o.tenant_id, o.id FROM job o WHERE o.state IN ('queued', 'running') AND (o.state = 'queued' OR o.lease_until < clock_timestamp())
			ORDER BY o.created_at LIMIT 1 FOR UPDATE SKIP LOCKED) n
		WHERE j.tenant_id = n.tenant_id AND j.id = n.id RETURNING j.tenant_id, j.id, coalesce(j.caller->>'scope', '')
	$f$;
	REVOKE ALL ON FUNCTION job_claim(uuid, int) FROM PUBLIC;
	GRANT EXECUTE ON FUNCTION job_claim(uuid, int) TO {{schema}}_app;
	ALTER FUNCTION job_claim(uuid, int) OWNER TO {{schema}}_search;
END $$;

CREATE PROCEDURE entity_jobs() LANGUAGE plpgsql AS $$
BEGIN
	IF to_regclass('job') IS NULL THEN
		CALL entity_jobs_base();
	END IF;
	ALTER TABLE job ADD created bigint NOT NULL DEFAULT 0, ADD updated bigint NOT NULL DEFAULT 0, ADD skipped bigint NOT NULL DEFAULT 0,
		ADD dry_run boolean, ADD reverts_id uuid,
		ADD blob text,          -- the rows of an import; deleted with the end of the job
		ADD place bigint;       -- in it: where the next step begins
	CREATE UNIQUE INDEX job_reverts_id_unique ON job (tenant_id, reverts_id) WHERE reverts_id IS NOT NULL AND state NOT IN ('failed', 'cancelled');
	ALTER TABLE job_item ADD table_row bigint, ADD action text, ADD problems jsonb,
		ADD before jsonb,       -- the row that an import changed, for who takes it back: personal data, see subject_scrub
		ADD made bigint,        -- the version that it made
		ADD known uuid;         -- of a dry run: a hash of what rows are recognised by
	CREATE INDEX job_item_before ON job_item (tenant_id, entity_id) WHERE before IS NOT NULL;
	CREATE INDEX job_item_known ON job_item (tenant_id, job_id, known) WHERE known IS NOT NULL;

	-- Keys that are to be deleted from the blob store once due: an upload that was begun (its row goes when a job has it), and what a job is done with.
	CREATE TABLE blob_queue (
		blob text PRIMARY KEY,
		upload_of uuid,
		due_at timestamptz NOT NULL,
		tries integer NOT NULL DEFAULT 0
	);
	CREATE INDEX blob_queue_due ON blob_queue (due_at);
	GRANT SELECT, INSERT, UPDATE, DELETE ON blob_queue TO {{schema}}_app;

	-- What is over cannot be cancelled; its file goes in the same transaction.
	CREATE OR REPLACE FUNCTION job_states() RETURNS trigger LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $f$
	BEGIN
		IF NEW.state = 'cancelled' THEN
			IF OLD.state NOT IN ('queued', 'running') THEN
				RAISE EXCEPTION 'The job is over already: it is %', OLD.state USING ERRCODE = 'CR409';
			END IF;
			NEW.finished_at := clock_timestamp();
			NEW.payload := NULL;
			NEW.caller := NULL;
		END IF;
		IF NEW.state IN ('done', 'failed', 'cancelled') AND NEW.blob IS NOT NULL THEN
			INSERT INTO blob_queue (blob, due_at) VALUES (NEW.blob, now()) ON CONFLICT (blob) DO NOTHING;
			NEW.blob := NULL;
			NEW.place := NULL;
		END IF;
		RETURN NEW;
	END $f$;

	CREATE OR REPLACE FUNCTION subject_scrub(ids uuid[]) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $f$
		UPDATE outbox SET before = NULL, after = NULL
		WHERE tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid AND entity_id = ANY(ids) AND (before IS NOT NULL OR after IS NOT NULL);
		UPDATE idempotency SET reply = '' WHERE tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid
			AND EXISTS (SELECT FROM unnest(ids) i WHERE position(convert_to(i::text, 'UTF8') IN reply) > 0);
		UPDATE job_item SET before = NULL WHERE tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid AND entity_id = ANY(ids) AND before IS NOT NULL;
	$f$;
	GRANT SELECT, UPDATE ON job_item TO {{schema}}_search;

	-- PostgreSQL looks at what has grown once a minute. Until then a table that a first import has filled is planned as if it were empty, and then a
	-- row is looked for by whatever index begins with the tenant (5 ms instead of 0.05). Its owner may have it looked at now.
	CREATE FUNCTION table_grown(t text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $f$
	BEGIN
		EXECUTE format('ANALYZE (SKIP_LOCKED) %I', t);
	END $f$;
	REVOKE ALL ON FUNCTION table_grown(text) FROM PUBLIC;
	GRANT EXECUTE ON FUNCTION table_grown(text) TO {{schema}}_app;
END $$;

-- Who is there by this mail address, in whatever case: CALL entity_email('contact'). lower() is not leakproof, so its index is never used behind
-- row-level security: the function runs as a role that bypasses it, looks at the caller's tenant only, and gives ids that are joined through it again.
-- Each address is looked up by itself (OFFSET 0 keeps that): a table that an import fills has statistics of when it was empty, and would be read whole.
CREATE PROCEDURE entity_email(t text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE INDEX %I ON %I (tenant_id, lower(email)) WHERE deleted_at IS NULL AND email IS NOT NULL', t || '_email_lower', t);
	EXECUTE format('GRANT SELECT ON %I TO {{schema}}_search', t);
	EXECUTE format($f$
		CREATE FUNCTION %1$I(mails text[]) RETURNS TABLE (key text, id uuid) LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 500 SET search_path = {{schema}}, pg_temp AS $b$
		DECLARE tenant uuid := NULLIF(current_setting('app.tenant_id', true), '')::uuid;
		BEGIN
			RETURN QUERY SELECT m.mail, f.id FROM unnest(mails) m(mail) CROSS JOIN LATERAL
				(SELECT s.id FROM %2$I s WHERE s.tenant_id = tenant AND s.deleted_at IS NULL AND s.email IS NOT NULL AND lower(s.email) = m.mail OFFSET 0) f;
		END $b$ $f$, t || '_by_email', t);
	EXECUTE format('REVOKE ALL ON FUNCTION %I(text[]) FROM PUBLIC', t || '_by_email');
	EXECUTE format('GRANT EXECUTE ON FUNCTION %I(text[]) TO {{schema}}_app', t || '_by_email');
	EXECUTE format('ALTER FUNCTION %I(text[]) OWNER TO {{schema}}_search', t || '_by_email');
END $$;
