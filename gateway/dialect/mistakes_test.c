/* Mistakes in declarations: each is refused, and the sentence says where it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/dialect/testing.h"

static void refuses(const char *textproto, const char *reason)
{
	const char *why = testing_mistake(textproto);

	if (!why)
		fail_msg("accepted: %s", textproto);
	if (!strstr(why, reason))
		fail_msg("'%s' does not say '%s'", why, reason);
	free((void *)why);
}

#define OK_ERROR "error { template: '{\"e\":\"$code\"}' } "
#define LEAD "resource { name: \"lead\" message: \"crm.v1.Lead\" f { j: \"id\" as: \"id:lead\" } } "

static void mistakes_are_refused_with_their_place(void **state)
{
	refuses(OK_ERROR "resource { name: \"lead\" message: \"crm.v1.Lead\" f { j: \"phone\" p: \"fone\" } }", "lead.phone: no field 'fone' in crm.v1.Lead");
	refuses(OK_ERROR "resource { name: \"lead\" message: \"crm.v1.Lead\" f { j: \"at\" p: \"created_us\" as: \"dec\" } }", "'dec' cannot encode created_us");
	refuses(OK_ERROR "resource { name: \"lead\" message: \"crm.v1.Lead\" f { j: \"value\" p: \"value\" as: \"dec:9\" } }", "dec: digits are 1 to 6");
	refuses(OK_ERROR "route { on: \"POST /api/auth/logout\" rpc: \"Auth.Logout\" example: '{}' }", "example: only for a body");
	refuses(OK_ERROR "resource { name: \"out\" message: \"crm.v1.LogoutRequest\" f { j: \"t\" p: \"refresh_token\" } } route { on: \"POST /api/auth/logout\" rpc: \"Auth.Logout\" body: \"out\" example: '{' }", "example: ");
	refuses(OK_ERROR "resource { name: \"lead\" message: \"crm.v1.Lad\" }", "there is no message crm.v1.Lad");
	refuses(OK_ERROR "resource { name: \"lead\" message: \"crm.v1.Lead\" f { j: \"s\" p: \"status\" as: \"map:x\" } }", "there is no enum_map 'x'");
	refuses(OK_ERROR "route { on: \"GET /x\" rpc: \"Leads.Nope\" }", "there is no rpc 'Leads.Nope'");
	refuses(OK_ERROR "route { on: \"GET /x/{id}\" rpc: \"Leads.Get\" out: \"lead\" }", "there is no resource 'lead'");
	refuses(OK_ERROR LEAD "route { on: \"GET /x/{id}\" rpc: \"Leads.Get\" out: \"lead\" } route { on: \"GET /x/{key}\" rpc: \"Leads.Get\" out: \"lead\" }", "collides with `GET /x/{id}`");
	refuses(OK_ERROR LEAD "route { on: \"GET /x\" rpc: \"Leads.List\" out: \"lead\" wrap: \"l\" }", "there is no shape 'l'");
	refuses(OK_ERROR LEAD "shape { name: \"l\" template: '{\"a\":\"$nope\"}' } route { on: \"GET /x\" rpc: \"Leads.List\" out: \"lead\" wrap: \"l\" }", "there is no variable '$nope' here");
	refuses(OK_ERROR LEAD "shape { name: \"l\" template: '{\"a\":' } route { on: \"GET /x\" rpc: \"Leads.List\" out: \"lead\" wrap: \"l\" }", "at byte");
	refuses(OK_ERROR LEAD "route { on: \"GET /x\" rpc: \"Leads.Get\" out: \"lead\" q { path: \"id\" p: \"key\" } }", "the path has no {id}");
	refuses(OK_ERROR "resource { name: \"a\" message: \"crm.v1.Session\" f { j: \"u\" p: \"user\" as: \"res:b\" } }", "there is no resource 'b'");
	refuses(OK_ERROR LEAD "route { on: \"GET /x/{id}\" rpc: \"Leads.Get\" out: \"lead\" other { when: \"fone\" status: 401 out: \"lead\" } }", "other: crm.v1.Lead has no field 'fone'");
	refuses(OK_ERROR LEAD "route { on: \"GET /x/{id}\" rpc: \"Leads.Get\" out: \"lead\" other { when: \"phone\" status: 500 out: \"lead\" } }", "other: status must be 200 to 499");
	refuses(OK_ERROR LEAD "route { on: \"GET /x/{id}\" rpc: \"Leads.Get\" out: \"lead\" other { when: \"phone\" is: 1 status: 201 out: \"lead\" } }", "other: phone is no number");
	refuses(OK_ERROR LEAD "route { on: \"GET /x/{id}\" rpc: \"Leads.Get\" out: \"lead\" other { when: \"phone\" status: 401 } }", "other: needs out or wrap");
	refuses("name: 1", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(mistakes_are_refused_with_their_place) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
