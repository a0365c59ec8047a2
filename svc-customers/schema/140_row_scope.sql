-- Accounts, contacts and leads can be limited to those of one member or of a team. Whose: the assigned member's, else the creator's.
-- The policy reads both columns, so the index behind the totals that lists ask for most has them, too: they are counted from it alone.
DO $$
DECLARE t text; kind text;
BEGIN
	FOR t, kind IN VALUES ('account', 'customers'), ('contact', 'contacts'), ('lead', 'leads') LOOP
		PERFORM limit_rows(t, kind, 'owner_id');
		EXECUTE format('DROP INDEX %I', t || '_status');
		EXECUTE format('CREATE INDEX %I ON %I (tenant_id, status, created_at DESC, id DESC) INCLUDE (owner_id, created_by) WHERE deleted_at IS NULL', t || '_status', t);
	END LOOP;
END $$;
