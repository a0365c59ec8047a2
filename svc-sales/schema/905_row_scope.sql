-- Deals and orders can be limited to those of one member or of a team (docs/auth.md): a deal is its owner's, an order its creator's.
SELECT limit_rows('deal', 'deals', 'owner_id');
SELECT limit_rows('orders', 'orders', NULL);
