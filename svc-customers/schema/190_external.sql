-- External ids (lib/db/schema/021_external.sql).
CALL entity_external('account');
CALL entity_external('contact');
CALL entity_external('lead');
CALL entity_external('territory');
