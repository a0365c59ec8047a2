-- Bulk operations and imports (lib/db/schema/030_jobs.sql).
CALL entity_jobs();
