-- Accounts, contacts, leads, tags, territories. Keys and indexes start with the tenant; row-level security is the wall.

CREATE TABLE tag (
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
	name_key text GENERATED ALWAYS AS (lower(name)) STORED, -- a column: lower() is not leakproof, so an index on it is not used under RLS
	color text,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT tag_seq_unique UNIQUE (tenant_id, seq)
);
CREATE UNIQUE INDEX tag_name_unique ON tag (tenant_id, name_key) WHERE deleted_at IS NULL;

CREATE TABLE territory (
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
	description text,
	is_active boolean NOT NULL DEFAULT true,
	search text GENERATED ALWAYS AS (lower(name || ' ' || coalesce(description, ''))) STORED,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT territory_seq_unique UNIQUE (tenant_id, seq)
);

-- One row holds a company and its primary contact (docs/adr/0003-primary-contact.md).
CREATE TABLE account (
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
	name text,
	contact_name text,
	email text,
	phone text,
	website text,
	street text,
	city text,
	state text,
	zip text,
	country text,
	industry text,
	size text,
	status text,
	account_type text,
	tag_ids uuid[] NOT NULL DEFAULT '{}',
	notes text,
	owner_id uuid,
	territory_id uuid,
	rating numeric,
	total_orders bigint NOT NULL DEFAULT 0,
	total_value numeric NOT NULL DEFAULT 0,
	last_contact_at timestamptz,
	search text GENERATED ALWAYS AS (lower(coalesce(name, '') || ' ' || coalesce(contact_name, '') || ' ' || coalesce(email, '') || ' ' || coalesce(phone, '')
		|| ' ' || coalesce(website, '') || ' ' || coalesce(city, '') || ' ' || coalesce(industry, ''))) STORED,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT account_seq_unique UNIQUE (tenant_id, seq),
	CONSTRAINT account_name_present CHECK (coalesce(name, '') <> '' OR coalesce(contact_name, '') <> '')
);

CREATE TABLE contact (
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
	display text,
	given text,
	family text,
	email text,
	phone text,
	company text,
	title text,
	account_id uuid,
	tag_ids uuid[] NOT NULL DEFAULT '{}',
	status text,
	notes text,
	owner_id uuid,
	last_contact_at timestamptz,
	search text GENERATED ALWAYS AS (lower(coalesce(display, '') || ' ' || coalesce(email, '') || ' ' || coalesce(phone, '') || ' ' || coalesce(company, '')
		|| ' ' || coalesce(title, ''))) STORED,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT contact_seq_unique UNIQUE (tenant_id, seq),
	CONSTRAINT contact_display_present CHECK (coalesce(display, '') <> '')
);

CREATE TABLE lead (
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
	display text,
	given text,
	family text,
	email text,
	phone text,
	company text,
	title text,
	source text,
	status text,
	value numeric,
	notes text,
	owner_id uuid,
	territory_id uuid,
	converted_at timestamptz,
	converted_account_id uuid,
	converted_contact_id uuid,
	converted_deal_seq bigint,
	search text GENERATED ALWAYS AS (lower(coalesce(display, '') || ' ' || coalesce(email, '') || ' ' || coalesce(phone, '') || ' ' || coalesce(company, '')
		|| ' ' || coalesce(title, ''))) STORED,
	PRIMARY KEY (tenant_id, id),
	CONSTRAINT lead_seq_unique UNIQUE (tenant_id, seq),
	CONSTRAINT lead_display_present CHECK (coalesce(display, '') <> '')
);

-- Lists walk (tenant, created_at, id) in either direction; a list with a filter walks the filter's index in the same order.
DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['tag', 'territory', 'account', 'contact', 'lead'] LOOP
		EXECUTE format('CREATE INDEX %I ON %I (tenant_id, created_at DESC, id DESC) WHERE deleted_at IS NULL', t || '_list', t);
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY tenant ON %I TO {{schema}}_app USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', t);
		EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO {{schema}}_app', t);
	END LOOP;
	FOREACH t IN ARRAY ARRAY['account', 'contact', 'lead'] LOOP
		EXECUTE format('CREATE INDEX %I ON %I (tenant_id, status, created_at DESC, id DESC) WHERE deleted_at IS NULL', t || '_status', t);
		EXECUTE format('CREATE INDEX %I ON %I (tenant_id, owner_id, created_at DESC, id DESC) WHERE deleted_at IS NULL', t || '_owner', t);
		EXECUTE format('CREATE INDEX %I ON %I (tenant_id, email) WHERE deleted_at IS NULL', t || '_email', t);
	END LOOP;
END $$;
CREATE INDEX account_name ON account (tenant_id, name, id) WHERE deleted_at IS NULL;
CREATE INDEX account_territory ON account (tenant_id, territory_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX contact_account ON contact (tenant_id, account_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX lead_source ON lead (tenant_id, source, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX lead_territory ON lead (tenant_id, territory_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;

-- LIKE and && are not leakproof, so under RLS their indexes are never used: these functions run as a role that bypasses
-- RLS, look at the caller's tenant only, and give nothing but ids, which the caller joins through RLS again.
-- ROWS is low on purpose: the ids are then looked up one by one by primary key; a few thousand of them still take milliseconds.
-- Searching reads a GIN index's list of pending entries from end to end: it is kept short.
DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['territory', 'account', 'contact', 'lead'] LOOP
		EXECUTE format('GRANT SELECT ON %I TO {{schema}}_search', t);
		EXECUTE format('CREATE INDEX %I ON %I USING gin (tenant_id extensions.uuid_ops, search extensions.gin_trgm_ops) WITH (gin_pending_list_limit = 256)', t || '_search', t);
		EXECUTE format($f$
			CREATE FUNCTION %1$I(q text) RETURNS SETOF uuid LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 20 PARALLEL SAFE
			SET search_path = {{schema}}, extensions, pg_temp AS $b$
			DECLARE tenant uuid := NULLIF(current_setting('app.tenant_id', true), '')::uuid;
			BEGIN
				RETURN QUERY SELECT s.id FROM %2$I s WHERE s.tenant_id = tenant AND s.deleted_at IS NULL
					AND s.search LIKE '%%' || lower(replace(replace(replace(q, '\', '\\'), '%%', '\%%'), '_', '\_')) || '%%' LIMIT 2001; -- RESOURCE_SEARCH_MANY + 1
			END $b$ $f$, t || '_search', t);
		EXECUTE format('REVOKE ALL ON FUNCTION %I(text) FROM PUBLIC', t || '_search');
		EXECUTE format('GRANT EXECUTE ON FUNCTION %I(text) TO {{schema}}_app', t || '_search');
		EXECUTE format('ALTER FUNCTION %I(text) OWNER TO {{schema}}_search', t || '_search');
	END LOOP;
	FOREACH t IN ARRAY ARRAY['account', 'contact'] LOOP
		EXECUTE format('CREATE INDEX %I ON %I USING gin (tenant_id extensions.uuid_ops, tag_ids) WHERE tag_ids <> ''{}''', t || '_tags', t);
		EXECUTE format($f$
			CREATE FUNCTION %1$I(tags uuid[]) RETURNS SETOF uuid LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 20 PARALLEL SAFE
			SET search_path = {{schema}}, extensions, pg_temp AS $b$
			DECLARE tenant uuid := NULLIF(current_setting('app.tenant_id', true), '')::uuid;
			BEGIN
				RETURN QUERY SELECT s.id FROM %2$I s WHERE s.tenant_id = tenant AND s.deleted_at IS NULL AND s.tag_ids && tags AND s.tag_ids <> '{}';
			END $b$ $f$, t || '_tagged', t);
		EXECUTE format('REVOKE ALL ON FUNCTION %I(uuid[]) FROM PUBLIC', t || '_tagged');
		EXECUTE format('GRANT EXECUTE ON FUNCTION %I(uuid[]) TO {{schema}}_app', t || '_tagged');
		EXECUTE format('ALTER FUNCTION %I(uuid[]) OWNER TO {{schema}}_search', t || '_tagged');
	END LOOP;
END $$;
