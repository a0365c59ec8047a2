-- Stages of the pipeline and deals. Keys and indexes start with the tenant; row-level security is the wall.
-- What spans fields are triggers: they see every write. They refuse with CR409 (conflict) and CR422 (a field), in sentences for people.

CREATE TABLE stage (
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
	slug text NOT NULL,
	description text,
	position bigint NOT NULL,
	probability bigint NOT NULL DEFAULT 0,
	kind text NOT NULL DEFAULT 'open',
	is_active boolean NOT NULL DEFAULT true,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT stage_seq_unique UNIQUE (tenant_id, seq)
);
CREATE UNIQUE INDEX stage_slug_unique ON stage (tenant_id, slug) WHERE deleted_at IS NULL;

CREATE TABLE deal (
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
	title text NOT NULL,
	description text,
	account_id uuid,
	contact_id uuid,
	lead_id uuid,
	value numeric,
	stage_id uuid NOT NULL,
	stage_slug text NOT NULL,
	status text NOT NULL,
	probability bigint NOT NULL,
	expected_close date,
	closed_on date,
	owner_id uuid,
	source text,
	stage_note text,
	lines jsonb NOT NULL DEFAULT '[]',
	stage_changed_at timestamptz NOT NULL DEFAULT now(),
	search text GENERATED ALWAYS AS (lower(title || ' ' || coalesce(description, ''))) STORED,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT deal_seq_unique UNIQUE (tenant_id, seq)
);
CREATE INDEX deal_list ON deal (tenant_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX deal_stage ON deal (tenant_id, stage_slug, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX deal_status ON deal (tenant_id, status, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX deal_owner ON deal (tenant_id, owner_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX deal_account ON deal (tenant_id, account_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX deal_closed ON deal (tenant_id, closed_on) WHERE deleted_at IS NULL AND status <> 'open';

-- Each entry into a stage, the first one included.
CREATE TABLE stage_change (
	tenant_id uuid NOT NULL,
	deal_id uuid NOT NULL,
	id bigint GENERATED ALWAYS AS IDENTITY,
	from_stage uuid,
	to_stage uuid NOT NULL,
	at timestamptz NOT NULL DEFAULT now(),
	by_user uuid,
	note text,
	PRIMARY KEY (tenant_id, deal_id, id)
);
CREATE INDEX stage_change_at ON stage_change (tenant_id, at);

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['stage', 'deal', 'stage_change'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY tenant ON %I TO {{schema}}_app USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', t);
		EXECUTE format('GRANT SELECT, INSERT ON %I TO {{schema}}_app', t);
	END LOOP;
	GRANT UPDATE ON stage, deal TO {{schema}}_app;
END $$;

-- -- first use

-- The six stages of a tenant that has none yet. Ids are made from tenant and word, so two at once make the same rows.
CREATE FUNCTION stage_seed() RETURNS void LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $$
DECLARE
	tenant uuid := NULLIF(current_setting('app.tenant_id', true), '')::uuid;
BEGIN
	IF EXISTS (SELECT FROM seq_block WHERE tenant_id = tenant AND kind = 'stage') THEN
		RETURN;
	END IF;
	INSERT INTO seq_block (tenant_id, kind, next) VALUES (tenant, 'stage', 7) ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	INSERT INTO stage (tenant_id, id, seq, name, slug, description, position, probability, kind)
	SELECT tenant, md5(tenant::text || s.slug)::uuid, s.seq, s.name, s.slug, s.description, s.seq - 1, s.probability, s.kind
	FROM (VALUES
		(1, 'Lead', 'lead', 'Initial lead stage', 10, 'open'),
		(2, 'Qualified', 'qualified', 'Need and budget are known', 25, 'open'),
		(3, 'Proposal', 'proposal', 'An offer has been made', 50, 'open'),
		(4, 'Negotiation', 'negotiation', 'Terms are being agreed on', 75, 'open'),
		(5, 'Closed Won', 'closed_won', 'The deal was won', 100, 'won'),
		(6, 'Closed Lost', 'closed_lost', 'The deal was lost', 0, 'lost')
	) s(seq, name, slug, description, probability, kind);
END $$;

-- -- stages

CREATE FUNCTION stage_before() RETURNS trigger LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		NEW.slug := coalesce(NULLIF(NEW.slug, ''), NULLIF(trim(BOTH '_' FROM regexp_replace(lower(NEW.name), '[^a-z0-9]+', '_', 'g')), ''), 'stage_' || NEW.seq);
		NEW.position := coalesce(NEW.position, (SELECT max(s.position) + 1 FROM stage s WHERE s.deleted_at IS NULL), 0);
		NEW.kind := coalesce(NEW.kind, 'open');
		NEW.probability := coalesce(NEW.probability, CASE NEW.kind WHEN 'won' THEN 100 ELSE 0 END);
		NEW.is_active := coalesce(NEW.is_active, true);
		RETURN NEW;
	END IF;
	IF NEW.slug IS DISTINCT FROM OLD.slug THEN
		RAISE EXCEPTION 'cannot be changed: deals are found by it' USING ERRCODE = 'CR422', COLUMN = 'slug', CONSTRAINT = 'read_only';
	END IF;
	NEW.position := coalesce(NEW.position, OLD.position);
	NEW.probability := coalesce(NEW.probability, 0);
	NEW.kind := coalesce(NEW.kind, OLD.kind);
	NEW.is_active := coalesce(NEW.is_active, true);
	IF (NEW.deleted_at IS NOT NULL OR NEW.kind <> OLD.kind) AND EXISTS (SELECT FROM deal d WHERE d.stage_slug = OLD.slug AND d.deleted_at IS NULL) THEN
		RAISE EXCEPTION 'There are deals in the stage "%": move them first', OLD.name USING ERRCODE = 'CR409';
	END IF;
	IF (NEW.deleted_at IS NOT NULL OR NOT NEW.is_active OR NEW.kind <> OLD.kind)
	   AND NOT EXISTS (SELECT FROM stage s WHERE s.id <> OLD.id AND s.kind = OLD.kind AND s.is_active AND s.deleted_at IS NULL) THEN
		RAISE EXCEPTION 'A pipeline needs an active stage of the kind "%"', OLD.kind USING ERRCODE = 'CR409';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER stage_before BEFORE INSERT OR UPDATE ON stage FOR EACH ROW EXECUTE FUNCTION stage_before();

-- -- deals

-- The stage that a write means. field: what to name when there is none.
CREATE FUNCTION stage_meant(want_id uuid, want_slug text, want_kind text) RETURNS stage LANGUAGE plpgsql STABLE SET search_path = {{schema}}, pg_temp AS $$
DECLARE s stage;
BEGIN
	IF want_id IS NOT NULL THEN
		SELECT * INTO s FROM stage t WHERE t.id = want_id AND t.deleted_at IS NULL;
	ELSIF want_slug IS NOT NULL THEN
		SELECT * INTO s FROM stage t WHERE t.slug = want_slug AND t.deleted_at IS NULL;
	ELSE
		SELECT * INTO s FROM stage t WHERE t.kind = want_kind AND t.is_active AND t.deleted_at IS NULL ORDER BY t.position, t.seq LIMIT 1;
	END IF;
	IF s.id IS NULL THEN
		RAISE EXCEPTION 'does not exist' USING ERRCODE = 'CR422', COLUMN = CASE WHEN want_id IS NULL AND want_slug IS NOT NULL THEN 'stage_slug' ELSE 'stage' END, CONSTRAINT = 'exists';
	END IF;
	RETURN s;
END $$;

CREATE FUNCTION deal_before() RETURNS trigger LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $$
DECLARE
	s stage;
	moved boolean := TG_OP = 'INSERT';
BEGIN
	NEW.lines := coalesce(NEW.lines, '[]');
	IF TG_OP = 'INSERT' THEN
		s := stage_meant(NEW.stage_id, NEW.stage_slug, 'open');
		NEW.owner_id := coalesce(NEW.owner_id, NEW.created_by);
	ELSIF NEW.deleted_at IS DISTINCT FROM OLD.deleted_at THEN
		RETURN NEW;
	ELSE
		-- a cleared stage stays as it is: a deal is always somewhere
		NEW.stage_id := coalesce(NEW.stage_id, OLD.stage_id);
		NEW.stage_slug := coalesce(NEW.stage_slug, OLD.stage_slug);
		IF NEW.status <> OLD.status THEN -- MarkWon, MarkLost, Reopen say what it shall be; a stage of that kind may be given
			s := CASE WHEN NEW.stage_id <> OLD.stage_id THEN stage_meant(NEW.stage_id, NULL, NULL) WHEN NEW.stage_slug <> OLD.stage_slug THEN stage_meant(NULL, NEW.stage_slug, NULL)
				ELSE stage_meant(NULL, NULL, NEW.status) END;
			IF s.kind <> NEW.status THEN
				RAISE EXCEPTION 'is no stage of the kind %', NEW.status USING ERRCODE = 'CR422', COLUMN = 'stage', CONSTRAINT = 'kind';
			END IF;
			moved := true;
		ELSIF NEW.stage_id <> OLD.stage_id OR NEW.stage_slug <> OLD.stage_slug THEN
			s := CASE WHEN NEW.stage_id <> OLD.stage_id THEN stage_meant(NEW.stage_id, NULL, NULL) ELSE stage_meant(NULL, NEW.stage_slug, NULL) END;
			IF OLD.status <> 'open' AND s.kind <> OLD.status THEN
				RAISE EXCEPTION 'The deal is closed (%): it must be reopened first, which needs the permission deals.reopen', OLD.status USING ERRCODE = 'CR409';
			END IF;
			moved := s.id <> OLD.stage_id;
		END IF;
	END IF;
	IF moved THEN
		NEW.stage_id := s.id;
		NEW.stage_slug := s.slug;
		NEW.status := s.kind;
		NEW.stage_changed_at := now();
		IF TG_OP = 'UPDATE' AND NEW.stage_note IS NOT DISTINCT FROM OLD.stage_note THEN
			NEW.stage_note := NULL; -- it was about the change before
		END IF;
		IF s.kind <> 'open' THEN
			NEW.closed_on := CASE WHEN TG_OP = 'INSERT' OR NEW.closed_on IS DISTINCT FROM OLD.closed_on THEN coalesce(NEW.closed_on, current_date) ELSE current_date END;
			NEW.probability := s.probability;
		ELSE
			NEW.closed_on := NULL;
			IF TG_OP = 'INSERT' THEN
				NEW.probability := coalesce(NEW.probability, s.probability);
			ELSIF NEW.probability IS NULL OR NEW.probability = OLD.probability THEN
				NEW.probability := s.probability;
			END IF;
		END IF;
	ELSE
		NEW.stage_id := OLD.stage_id;
		NEW.stage_slug := OLD.stage_slug;
		NEW.probability := coalesce(NEW.probability, OLD.probability);
		NEW.closed_on := CASE WHEN OLD.status = 'open' THEN NULL ELSE coalesce(NEW.closed_on, OLD.closed_on) END;
	END IF;
	IF jsonb_array_length(NEW.lines) > 0 THEN
		IF TG_OP = 'INSERT' OR NEW.lines <> OLD.lines THEN
			NEW.lines := lines_priced(NEW.lines);
		END IF;
		NEW.value := (SELECT sum((l->>'total')::numeric) FROM jsonb_array_elements(NEW.lines) l);
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER deal_before BEFORE INSERT OR UPDATE ON deal FOR EACH ROW EXECUTE FUNCTION deal_before();

CREATE FUNCTION deal_after() RETURNS trigger LANGUAGE plpgsql SET search_path = {{schema}}, pg_temp AS $$
BEGIN
	INSERT INTO stage_change (tenant_id, deal_id, from_stage, to_stage, by_user, note)
	VALUES (NEW.tenant_id, NEW.id, CASE WHEN TG_OP = 'UPDATE' THEN OLD.stage_id END, NEW.stage_id, NEW.updated_by, NEW.stage_note);
	RETURN NULL;
END $$;
CREATE TRIGGER deal_made AFTER INSERT ON deal FOR EACH ROW EXECUTE FUNCTION deal_after();
CREATE TRIGGER deal_moved AFTER UPDATE ON deal FOR EACH ROW WHEN (NEW.stage_id <> OLD.stage_id) EXECUTE FUNCTION deal_after();
