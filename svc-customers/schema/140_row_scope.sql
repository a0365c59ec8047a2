-- Accounts, contacts and leads can be limited to those of one member or of a team. Whose: the assigned member's, else the creator's.
DO $$
BEGIN
	PERFORM limit_rows('account', 'customers', 'owner_id');
	PERFORM limit_rows('contact', 'contacts', 'owner_id');
	PERFORM limit_rows('lead', 'leads', 'owner_id');
END $$;
