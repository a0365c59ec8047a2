-- Imports (lib/db/schema/030_jobs.sql).
CALL entity_jobs();
CALL entity_email('account');
CALL entity_email('contact');
CALL entity_email('lead');
