/* Ids in the three forms that clients send and dialects print: UUID, number, word_number. */
#include "base/codec.h"
#include "gateway/dialect/plan.h"

struct str id_prefix(struct arena *a, const Crm__Dialect__Dialect *src, const char *entity)
{
	const char *word = entity;

	for (size_t i = 0; i < src->n_entity_word; i++) {
		if (src->entity_word[i]->entity && src->entity_word[i]->word && strcmp(src->entity_word[i]->entity, entity) == 0)
			word = src->entity_word[i]->word;
	}
	return str_of(arena_printf(a, "%s_", word));
}

static bool seq_read(struct str digits, int64_t *seq)
{
	return digits.n > 0 && digits.p[0] != '-' && str_to_i64(digits, seq) && *seq >= 1 && *seq <= SEQ_MAX;
}

/* "lead_123", and "user456" as one document writes it. */
static bool seq_after_word(struct str text, struct str word, int64_t *seq)
{
	if (text.n <= word.n || !str_ieq((struct str){ text.p, word.n }, word))
		return false;
	text.p += word.n;
	text.n -= word.n;
	if (text.p[0] == '_') {
		text.p++;
		text.n--;
	}
	return seq_read(text, seq);
}

bool id_read(const struct encoder *e, struct str text, struct arena *a, struct key *out)
{
	char uuid[UUID_TEXT + 1];

	*out = (struct key){ .id = STR("") };
	if (text.n == UUID_TEXT && uuid_parse(text, uuid)) {
		out->id = arena_str(a, (struct str){ uuid, UUID_TEXT });
		return true;
	}
	if (seq_read(text, &out->seq))
		return true;
	if (e->prefix.n > 1 && seq_after_word(text, (struct str){ e->prefix.p, e->prefix.n - 1 }, &out->seq))
		return true;
	return e->entity && seq_after_word(text, str_of(e->entity), &out->seq);
}

void id_print(struct buf *b, Crm__Dialect__Dialect__IdStyle style, struct str prefix, struct str id, int64_t seq)
{
	if (style == CRM__DIALECT__DIALECT__ID_STYLE__UUID) {
		if (id.n)
			buf_json_str(b, id);
		else
			buf_str(b, STR("null"));
		return;
	}
	if (seq <= 0) {
		buf_str(b, STR("null"));
		return;
	}
	if (style == CRM__DIALECT__DIALECT__ID_STYLE__SEQ) {
		buf_i64(b, seq);
		return;
	}
	buf_c(b, '"');
	buf_str(b, prefix);
	buf_i64(b, seq);
	buf_c(b, '"');
}
