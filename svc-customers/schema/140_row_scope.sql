-- Accounts, contacts and leads can be limited to those of one member or of a team. Whose: the assigned member's, else the creator's.
-- The index finds the rows of one owner in the order of lists; owner_id and created_by in it let totals be counted from it alone.
DO $$
DECLARE t text; kind text;
BEGIN
	FOR t, kind IN VALUES ('account', 'customers'), ('contact', 'contacts'), ('lead', 'leads') LOOP
		PERFORM limit_rows(t, kind, 'coalesce(owner_id, created_by)');
		EXECUTE format('CREATE INDEX %I ON %I (tenant_id, coalesce(owner_id, created_by), created_at DESC, id DESC) INCLUDE (owner_id, created_by) WHERE deleted_at IS NULL',
			t || '_rows', t);
	END LOOP;
END $$;
