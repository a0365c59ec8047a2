/* What each method of proto/auth.proto runs, and on which kind of thread. */
#include "auth.h"

const struct op auth_ops[] = {
	{ .rpc = "Auth.Register", .kind = OP_LOOP, .on_loop = auth_register },
	{ .rpc = "Auth.Login", .kind = OP_LOOP, .on_loop = auth_login },
	{ .rpc = "Auth.Refresh", .kind = OP_HANDLER, .handler = auth_refresh },
	{ .rpc = "Auth.Logout", .kind = OP_HANDLER, .handler = auth_logout },
	{ .rpc = "Auth.Profile", .kind = OP_HANDLER, .handler = auth_profile },
	{ .rpc = "Auth.UpdateProfile", .kind = OP_HANDLER, .handler = auth_profile_update },
	{ .rpc = "Auth.Permissions", .kind = OP_HANDLER, .handler = auth_permissions },
	{ .rpc = "Auth.Health", .kind = OP_LOOP, .on_loop = auth_health },
	{ .rpc = "Auth.Jwks", .kind = OP_LOOP, .on_loop = auth_jwks },
	{ .rpc = "Auth.Changes", .kind = OP_LOOP, .on_loop = auth_changes },
	{ .rpc = "Auth.ResolvePrincipal", .kind = OP_HANDLER, .handler = auth_principal_resolve },
	{ .rpc = "Users.List", .kind = OP_HANDLER, .handler = users_list },
	{ .rpc = "Users.Get", .kind = OP_HANDLER, .handler = users_get },
	{ .rpc = "Users.Refs", .kind = OP_HANDLER, .handler = users_refs },
	{ .rpc = "Tenants.List", .kind = OP_HANDLER, .handler = tenants_list },
	{ .rpc = "Tenants.Get", .kind = OP_HANDLER, .handler = tenants_get },
	{ .rpc = "Tenants.Create", .kind = OP_HANDLER, .handler = tenants_create },
	{ .rpc = "Tenants.Update", .kind = OP_HANDLER, .handler = tenants_update },
	{ .rpc = "Tenants.Delete", .kind = OP_HANDLER, .handler = tenants_delete },
	{ .rpc = "ApiKeys.List", .kind = OP_HANDLER, .handler = api_keys_list },
	{ .rpc = "ApiKeys.Create", .kind = OP_HANDLER, .handler = api_keys_create },
	{ .rpc = "ApiKeys.Revoke", .kind = OP_HANDLER, .handler = api_keys_revoke },
};

const size_t auth_n_ops = sizeof(auth_ops) / sizeof(*auth_ops);
