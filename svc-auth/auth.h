/* The handlers of svc-auth, one per method of proto/auth.proto; ops.c says which thread each runs on. */
#ifndef CRM_AUTH_AUTH_H
#define CRM_AUTH_AUTH_H

#include "resource/resource.h"

/* Loop thread; they hand themselves on to the hashing pool and the workers. */
void auth_register(struct rpc_call *call);
void auth_login(struct rpc_call *call);
void auth_forgot_password(struct rpc_call *call);
void users_create(struct rpc_call *call);
void auth_health(struct rpc_call *call);
void auth_jwks(struct rpc_call *call);
void auth_changes(struct rpc_call *call);

/* Worker threads. */
void auth_refresh(struct rpc_call *call, struct db_conn *db);
void auth_logout(struct rpc_call *call, struct db_conn *db);
void auth_profile(struct rpc_call *call, struct db_conn *db);
void auth_profile_update(struct rpc_call *call, struct db_conn *db);
void auth_permissions(struct rpc_call *call, struct db_conn *db);
void auth_principal_resolve(struct rpc_call *call, struct db_conn *db);
void auth_subjects_find(struct rpc_call *call, struct db_conn *db);
void auth_subjects_erase(struct rpc_call *call, struct db_conn *db);
void users_list(struct rpc_call *call, struct db_conn *db);
void users_export(struct rpc_call *call, struct db_conn *db);
void users_get(struct rpc_call *call, struct db_conn *db);
void users_refs(struct rpc_call *call, struct db_conn *db);
void auth_reset_password(struct rpc_call *call, struct db_conn *db);
void auth_change_password(struct rpc_call *call, struct db_conn *db);
void auth_sessions(struct rpc_call *call, struct db_conn *db);
void auth_session_end(struct rpc_call *call, struct db_conn *db);
void auth_sessions_end(struct rpc_call *call, struct db_conn *db);
void auth_explain(struct rpc_call *call, struct db_conn *db);
void users_update(struct rpc_call *call, struct db_conn *db);
void users_delete(struct rpc_call *call, struct db_conn *db);
void users_set_status(struct rpc_call *call, struct db_conn *db);
void users_reset_password(struct rpc_call *call, struct db_conn *db);
void users_bulk_update(struct rpc_call *call, struct db_conn *db);
void users_stats(struct rpc_call *call, struct db_conn *db);
void users_get_permissions(struct rpc_call *call, struct db_conn *db);
void users_set_permissions(struct rpc_call *call, struct db_conn *db);
void users_get_row_access(struct rpc_call *call, struct db_conn *db);
void users_set_row_access(struct rpc_call *call, struct db_conn *db);
void users_prepare_avatar(struct rpc_call *call, struct db_conn *db);
void users_set_avatar(struct rpc_call *call, struct db_conn *db);
void users_get_avatar(struct rpc_call *call, struct db_conn *db);
void users_delete_avatar(struct rpc_call *call, struct db_conn *db);
void roles_list(struct rpc_call *call, struct db_conn *db);
void roles_create(struct rpc_call *call, struct db_conn *db);
void roles_update(struct rpc_call *call, struct db_conn *db);
void roles_delete(struct rpc_call *call, struct db_conn *db);
void roles_catalogue(struct rpc_call *call, struct db_conn *db);
void invitations_list(struct rpc_call *call, struct db_conn *db);
void invitations_create(struct rpc_call *call, struct db_conn *db);
void invitations_cancel(struct rpc_call *call, struct db_conn *db);
void invitations_resend(struct rpc_call *call, struct db_conn *db);
void invitations_accept(struct rpc_call *call, struct db_conn *db);
void tenants_list(struct rpc_call *call, struct db_conn *db);
void tenants_get(struct rpc_call *call, struct db_conn *db);
void tenants_create(struct rpc_call *call, struct db_conn *db);
void tenants_update(struct rpc_call *call, struct db_conn *db);
void tenants_delete(struct rpc_call *call, struct db_conn *db);
void api_keys_list(struct rpc_call *call, struct db_conn *db);
void api_keys_create(struct rpc_call *call, struct db_conn *db);
void api_keys_revoke(struct rpc_call *call, struct db_conn *db);
void auth_login_mfa(struct rpc_call *call, struct db_conn *db);
void auth_login_enrol_mfa(struct rpc_call *call, struct db_conn *db);
void auth_login_confirm_mfa(struct rpc_call *call, struct db_conn *db);
void auth_get_mfa(struct rpc_call *call, struct db_conn *db);
void auth_enrol_mfa(struct rpc_call *call, struct db_conn *db);
void auth_confirm_mfa(struct rpc_call *call, struct db_conn *db);
void auth_disable_mfa(struct rpc_call *call, struct db_conn *db);
void auth_renew_recovery_codes(struct rpc_call *call, struct db_conn *db);
void users_disable_mfa(struct rpc_call *call, struct db_conn *db);
void settings_list(struct rpc_call *call, struct db_conn *db);
void settings_get(struct rpc_call *call, struct db_conn *db);
void settings_create(struct rpc_call *call, struct db_conn *db);
void settings_update(struct rpc_call *call, struct db_conn *db);
void settings_delete(struct rpc_call *call, struct db_conn *db);

extern const struct op auth_ops[];
extern const size_t auth_n_ops;

#endif
