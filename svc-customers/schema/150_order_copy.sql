-- What svc-customers knows of svc-sales' orders, from its events: an account's orders, their value, and when it last ordered.
CREATE TABLE order_copy (
	tenant_id uuid NOT NULL,
	id uuid NOT NULL,
	version bigint NOT NULL,
	account_id uuid,
	counts boolean NOT NULL,  -- neither cancelled nor returned
	total numeric NOT NULL,
	ordered_at timestamptz NOT NULL,
	PRIMARY KEY (tenant_id, id)
);
CREATE INDEX order_copy_account ON order_copy (tenant_id, account_id);
ALTER TABLE order_copy ENABLE ROW LEVEL SECURITY;
ALTER TABLE order_copy FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON order_copy TO {{schema}}_app USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid) WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE ON order_copy TO {{schema}}_app;
