-- External ids (lib/db/schema/021_external.sql).
CALL entity_external('deal');
CALL entity_external('category');
CALL entity_external('product');
CALL entity_external('orders');
