/* Makes the contract of a service from its files. */
#include "service/contract.h"

#include "base/arena.h"
#include "base/files.h"
#include "base/version.h"
#include "proto/common.pb-c.h"
#include "schema/schema.h"

static ProtobufCBinaryData binary(struct str s)
{
	return (ProtobufCBinaryData){ s.n, (uint8_t *)s.p };
}

static size_t read_faces(struct arena *a, const char *dir, Crm__V1__Contract__Face **out)
{
	struct file_text files[FILES_MOST];
	const char *none = "";
	size_t n = files_read(a, dir, files, &none);

	for (size_t i = 0; i < n; i++) {
		out[i] = ARENA_NEW(a, Crm__V1__Contract__Face);
		crm__v1__contract__face__init(out[i]);
		out[i]->dialect = (char *)files[i].name;
		out[i]->has_fragment = true;
		out[i]->fragment = binary(files[i].bytes);
	}
	return n;
}

static void pack(const Crm__V1__Contract *c, struct buf *out)
{
	buf_need(out, crm__v1__contract__get_packed_size(c));
	out->n += crm__v1__contract__pack(c, (uint8_t *)out->p + out->n);
}

bool contract_make(const char *service, const char *descriptor_dir, const char *dialect_dir, struct buf *out, const char **why)
{
	Crm__V1__Contract c = CRM__V1__CONTRACT__INIT;
	Crm__V1__Contract__Face *faces[FILES_MOST];
	struct arena a = { 0 };
	struct buf descriptors = { 0 };
	const char *path = arena_printf(&a, "%s/%s.pb", descriptor_dir, service);
	struct str file;
	bool ok = file_read(&a, path, &file) && schema_strip(file, &descriptors);

	if (ok) {
		c.service = (char *)service;
		c.version = (char *)crm_version;
		c.has_built = c.has_descriptors = true;
		c.built = crm_built;
		c.descriptors = binary(buf_view(&descriptors));
		c.face = faces;
		c.n_face = *dialect_dir ? read_faces(&a, dialect_dir, faces) : 0;
		pack(&c, out);
	} else {
		*why = xstrdup(arena_printf(&a, "%s: is not a descriptor set", path));
	}
	buf_fini(&descriptors);
	arena_fini(&a);
	return ok;
}
