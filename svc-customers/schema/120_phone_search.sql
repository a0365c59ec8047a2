-- Phone numbers are found by their digits alone, too: whoever reads one from a display types no '+' and no dashes.
DO $$
DECLARE t text; words text;
BEGIN
	FOREACH t IN ARRAY ARRAY['account', 'contact', 'lead'] LOOP
		SELECT pg_get_expr(d.adbin, d.adrelid) INTO STRICT words FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
			WHERE a.attrelid = t::regclass AND a.attname = 'search';
		EXECUTE format('ALTER TABLE %I DROP COLUMN search', t); -- and its index
		EXECUTE format('ALTER TABLE %I ADD COLUMN search text GENERATED ALWAYS AS (%s || '' '' || regexp_replace(coalesce(phone, ''''), ''[^0-9]'', '''', ''g'')) STORED', t, words);
		EXECUTE format('CREATE INDEX %I ON %I USING gin (tenant_id extensions.uuid_ops, search extensions.gin_trgm_ops) WITH (gin_pending_list_limit = 256)', t || '_search', t);
	END LOOP;
END $$;
