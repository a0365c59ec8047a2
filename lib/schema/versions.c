/* Contracts of different builds: what of a descriptor set matters, and whether a newer one can stand in for an older. */
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "google/protobuf/descriptor.pb-c.h"
#include "schema/schema_internal.h"

/* -- what matters */

static bool has_comment(const Google__Protobuf__SourceCodeInfo__Location *l)
{
	return l->leading_comments || l->trailing_comments;
}

/* Keeps the locations with comments, without their places in the file and the paragraphs that stand apart. */
static void strip_source(Google__Protobuf__SourceCodeInfo *info)
{
	size_t kept = 0;

	for (size_t i = 0; i < info->n_location; i++) {
		Google__Protobuf__SourceCodeInfo__Location *l = info->location[i];

		if (!has_comment(l)) {
			protobuf_c_message_free_unpacked(&l->base, NULL);
			continue;
		}
		for (size_t k = 0; k < l->n_leading_detached_comments; k++)
			free(l->leading_detached_comments[k]);
		l->n_leading_detached_comments = 0;
		l->n_span = 0;
		info->location[kept++] = l;
	}
	info->n_location = kept;
}

static void strip_files(Google__Protobuf__FileDescriptorSet *set)
{
	size_t kept = 0;

	for (size_t i = 0; i < set->n_file; i++) {
		Google__Protobuf__FileDescriptorProto *f = set->file[i];

		if (!f->package || strncmp(f->package, "google.", 7) == 0) {
			google__protobuf__file_descriptor_proto__free_unpacked(f, NULL);
			continue;
		}
		if (f->source_code_info)
			strip_source(f->source_code_info);
		set->file[kept++] = f;
	}
	set->n_file = kept;
}

bool schema_strip(struct str bytes, struct buf *out)
{
	Google__Protobuf__FileDescriptorSet *set = google__protobuf__file_descriptor_set__unpack(NULL, bytes.n, (const uint8_t *)bytes.p);
	size_t n;

	if (!set)
		return false;
	strip_files(set);
	n = google__protobuf__file_descriptor_set__get_packed_size(set);
	buf_need(out, n);
	out->n += google__protobuf__file_descriptor_set__pack(set, (uint8_t *)out->p + out->n);
	google__protobuf__file_descriptor_set__free_unpacked(set, NULL);
	return true;
}

/* -- compatibility */

bool schema_has_service(const struct schema *s, const char *service)
{
	for (size_t i = 0; i < s->n_methods; i++) {
		if (strcmp(s->methods[i].service, service) == 0)
			return true;
	}
	return false;
}

static bool same_type(const struct schema_field *a, const struct schema_field *b)
{
	if (a->type != b->type || a->repeated != b->repeated || strcmp(a->name, b->name) != 0)
		return false;
	return a->type != TYPE_MESSAGE || strcmp(a->message->name, b->message->name) == 0;
}

static bool message_compatible(const struct schema_message *before, const struct schema_message *now, struct arena *a, const char **why)
{
	for (size_t i = 0; i < before->n_fields; i++) {
		const struct schema_field *was = &before->fields[i], *is = was->number <= now->max_number ? now->by_number[was->number] : NULL;

		if (is && same_type(was, is))
			continue;
		*why = arena_printf(a, is ? "%s.%s: number %u has another name or type now" : "%s.%s: number %u is gone", before->name, was->name, was->number);
		return false;
	}
	return true;
}

static bool same_message(const struct schema_message *a, const struct schema_message *b)
{
	return a == b || (a && b && strcmp(a->name, b->name) == 0);
}

static bool method_compatible(const struct schema_method *before, const struct schema_method *now, struct arena *a, const char **why)
{
	if (!now) {
		*why = arena_printf(a, "%s is gone", before->name);
		return false;
	}
	if (same_message(before->input, now->input) && same_message(before->output, now->output) && same_message(before->entity, now->entity))
		return true;
	*why = arena_printf(a, "%s takes, gives or is about another message now", before->name);
	return false;
}

bool schema_compatible(const struct schema *before, const struct schema *now, const char *service, struct arena *a, const char **why)
{
	for (size_t i = 0; i < before->n_methods; i++) {
		const struct schema_method *m = &before->methods[i];

		if (strcmp(m->service, service) == 0 && !method_compatible(m, schema_method_find(now, str_of(m->name)), a, why))
			return false;
	}
	for (size_t i = 0; i < before->n_messages; i++) {
		const struct schema_message *m = &before->messages[i], *other;

		if (strcmp(m->file, service) != 0)
			continue;
		other = schema_message_find(now, str_of(m->name));
		if (!other)
			*why = arena_printf(a, "message %s is gone", m->name);
		if (!other || !message_compatible(m, other, a, why))
			return false;
	}
	return true;
}
