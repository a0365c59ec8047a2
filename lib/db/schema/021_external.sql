-- What another system calls a row: external_id, one live row each in a tenant (docs/resource.md).
--   CALL entity_external('competitor');
CREATE PROCEDURE entity_external(t text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER TABLE %I ADD COLUMN external_id text', t);
	EXECUTE format('CREATE UNIQUE INDEX %I ON %I (tenant_id, external_id) WHERE deleted_at IS NULL AND external_id IS NOT NULL', t || '_external_id_unique', t);
END $$;
