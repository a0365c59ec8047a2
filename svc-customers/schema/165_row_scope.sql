GRANT UPDATE (title) ON timeline_entry TO {{schema}}_app; -- of who was erased
-- Notes and timelines are seen by those who see the account (docs/auth.md, ADR 0016).
DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['note', 'timeline_entry'] LOOP
		EXECUTE format('CREATE POLICY scope ON %1$I AS RESTRICTIVE TO {{schema}}_app USING ('
			'(SELECT (strpos(coalesce(current_setting(''app.scope'', true), ''''), '' customers='') > 0)::integer) <> 1'
			' OR EXISTS (SELECT FROM account a WHERE a.tenant_id = %1$I.tenant_id AND a.id = %1$I.account_id))', t);
	END LOOP;
END $$;
