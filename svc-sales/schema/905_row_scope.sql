-- Deals and orders can be limited to those of one member or of a team (docs/auth.md): a deal is its owner's, an order its creator's.
SELECT limit_rows('deal', 'deals', 'owner_id');
-- as limit_rows() would, which cannot do it for a table without an owner: format() takes no NULL for a name
CREATE POLICY scope ON orders AS RESTRICTIVE TO {{schema}}_app USING (
	(SELECT (strpos(coalesce(current_setting('app.scope', true), ''), ' orders=') > 0)::integer) <> 1
	OR created_by = ANY ((SELECT row_owners('orders'))::uuid[]));
CREATE INDEX orders_rows ON orders (tenant_id, created_by, created_at DESC, id DESC) WHERE deleted_at IS NULL;
