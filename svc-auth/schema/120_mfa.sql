-- The second factor. Like credential: read before a tenant is known, by exact key only, granted to {{schema}}_app and to nobody else.

-- A person has one, whatever the number of tenants. secret: nonce, ciphertext and tag of AES-256-GCM with the person's id as associated
-- data, under the key-encryption key that key_id names.
CREATE TABLE mfa (
	person_id uuid PRIMARY KEY REFERENCES person ON DELETE CASCADE,
	key_id text NOT NULL,
	secret bytea NOT NULL,
	last_step bigint NOT NULL DEFAULT 0,                      -- of the newest code that was accepted: no code works twice
	created_at timestamptz NOT NULL DEFAULT now(),
	confirmed_at timestamptz                                  -- NULL: asked for, never proven; protects nothing yet
);

-- HMAC under a key that the database does not have: fifty bits are too few for a plain hash.
CREATE TABLE mfa_recovery (
	person_id uuid NOT NULL REFERENCES mfa ON DELETE CASCADE,
	code_hash bytea NOT NULL CHECK (length(code_hash) = 32),
	used_at timestamptz,
	PRIMARY KEY (person_id, code_hash)
);

-- A login whose password was right and that lacks the rest.
CREATE TABLE mfa_challenge (
	token_hash bytea PRIMARY KEY CHECK (length(token_hash) = 32),
	person_id uuid NOT NULL REFERENCES person ON DELETE CASCADE,
	tenant_id uuid NOT NULL REFERENCES tenant ON DELETE CASCADE,
	purpose text NOT NULL CHECK (purpose IN ('login', 'enrol')),
	remember_me boolean NOT NULL DEFAULT false,
	tries integer NOT NULL DEFAULT 0,
	created_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz NOT NULL
);
CREATE INDEX mfa_challenge_expiry ON mfa_challenge (expires_at);
CREATE INDEX mfa_challenge_person ON mfa_challenge (person_id);

GRANT SELECT, INSERT, UPDATE, DELETE ON mfa, mfa_recovery, mfa_challenge TO {{schema}}_app;
