/*
 * nbmf_sample.c
 *		Documents of a sample: gathering them, and finding the dictionary that
 *		serves them best.
 *
 * Documents go to two halves in turn: one trains, the other judges.  What a
 * dictionary is worth is always measured on documents it was not made from.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/fmgrprotos.h"
#include "utils/syscache.h"

#include "tier/tier.h"
#include "type/type.h"

/* A new dictionary or model replaces one in use if it saves this much more */
#define REPLACE_GAIN 0.02

/* Content that a model learns from, and content that one is judged on, about */
#define MODEL_BYTES (4.0 * 1024 * 1024)
#define JUDGE_BYTES (1024.0 * 1024)

/*
 * Sizes of models that are tried: content of the table for a slot, which takes about
 * two bytes, stored.  On chat, logs and abstracts, in tables of 3 to 60 MB, the best lay
 * among these, and a size was the worse the farther from the best.
 */
static const double bytes_per_slot[] = {512, 256, 128, 64};
#define FIRST_SIZE 2

#define SLOTS_MIN  1024.0
#define SLOTS_MAX  1000000.0

/*
 * What is tried: measured on chat, logs, records and notes, d = 6 was never
 * worse than 8 by more than 1 %, and the best segment size lay in this range.
 */
#define COVER_D 6
static const unsigned cover_k[] = {128, 256, 512, 1024, 2048};
static const size_t dictionary_sizes[] = {16384, 32768, 65536, 112640, 262144};

void
nbmf_documents_init(NbmfDocuments *documents)
{
	for (int i = 0; i < 2; i++)
	{
		initStringInfo(&documents->half[i]);
		documents->sizes[i] = NULL;
		documents->count[i] = 0;
		documents->room[i] = 0;
	}
}

/*
 * Add a document, in the current memory context, which must be that of
 * nbmf_documents_init.
 */
void
nbmf_documents_add(NbmfDocuments *documents, const char *content, Size len)
{
	int half = documents->count[0] > documents->count[1];

	if (documents->count[half] == documents->room[half])
	{
		documents->room[half] = Max(documents->room[half] * 2, 256);
		documents->sizes[half] =
			documents->sizes[half] == NULL
				? palloc(documents->room[half] * sizeof(size_t))
				: repalloc(documents->sizes[half], documents->room[half] * sizeof(size_t));
	}
	appendBinaryStringInfo(&documents->half[half], content, (int) len);
	documents->sizes[half][documents->count[half]++] = len;
}

/*
 * About so many bytes of documents of a half, evenly spread over it: the sample is in
 * the order of the table, whose beginning may be another kind of documents than its end.
 */
static NbmfSample
spread_half(const NbmfDocuments *documents, int half, double most, double *raw_bytes)
{
	const char *from = documents->half[half].data;
	double share = most / Max(documents->half[half].len, 1);
	double due = 0;
	StringInfoData bytes;
	size_t *sizes;
	size_t count = 0;

	if (share >= 1)
	{
		*raw_bytes = documents->half[half].len;
		return (NbmfSample){(const uint8 *) from, documents->sizes[half], documents->count[half]};
	}
	initStringInfo(&bytes);
	sizes = palloc(documents->count[half] * sizeof(size_t));
	for (size_t i = 0; i < documents->count[half]; i++)
	{
		size_t size = documents->sizes[half][i];

		due += share * (double) size;
		if (due >= (double) size / 2)
		{
			due -= (double) size;
			appendBinaryStringInfo(&bytes, from, (int) size);
			sizes[count++] = size;
		}
		from += size;
	}
	*raw_bytes = bytes.len;
	return (NbmfSample){(const uint8 *) bytes.data, sizes, count};
}

/*
 * What documents take in frames of a level, with a dictionary and a model or
 * (NULL) without: the sum in bytes, and the sum of squares if squares is not NULL.
 */
static double
sample_cost(const NbmfSample *sample, int level, const NbmfDict *dict, const NbmfModel *model,
			double *squares)
{
	NbmfEncodeParams params = {.kind = NBMF_KIND_TEXT,
							   .tier = NBMF_TIER_L1,
							   .level = level,
							   .dict = dict,
							   .model = model,
							   .interrupted = nbmf_serve_interrupts};
	NbmfWorkspace ws = {0};
	uint64_t bytes;
	double ignored;
	NbmfStatus status =
		nbmf_sample_cost(&ws, &params, sample, &bytes, squares != NULL ? squares : &ignored);

	nbmf_workspace_free(&ws);
	if (status == NBMF_ERR_INTERRUPTED)
		nbmf_throw_interrupt();
	if (status != NBMF_OK)
		nbmf_report_damage(status, NULL);
	return (double) bytes;
}

/*
 * What the judging half takes with a dictionary or (NULL) without.
 */
double
nbmf_documents_cost(const NbmfDocuments *documents, int level, const NbmfDict *dict,
					double *squares)
{
	NbmfSample judges = {(const uint8 *) documents->half[1].data, documents->sizes[1],
						 documents->count[1]};

	return sample_cost(&judges, level, dict, NULL, squares);
}

/*
 * The same with a dictionary that is not yet an object.
 */
double
nbmf_documents_cost_with(const NbmfDocuments *documents, int level, bytea *payload, double *squares)
{
	NbmfDict dict = {
		.id = NBMF_OBJECT_MAX, .bytes = VARDATA_ANY(payload), .len = VARSIZE_ANY_EXHDR(payload)};
	double result = 0;

	PG_TRY();
	{
		if (nbmf_dict_prepare_encode(&dict, level) != NBMF_OK)
			nbmf_report_damage(NBMF_ERR_MEMORY, NULL);
		result = nbmf_documents_cost(documents, level, &dict, squares);
	}
	PG_FINALLY();
	{
		nbmf_dict_free(&dict);
	}
	PG_END_TRY();
	return result;
}

/*
 * Best dictionary for the documents, palloc'd; NULL if none pays against doing
 * without, or against the object current, if that is not 0.  weight is how many
 * documents of the table each that judges stands for: frames count that much
 * more often than the dictionary, which is there once.  *ratio is set to
 * content by frames with it.
 */
bytea *
nbmf_documents_train(const NbmfDocuments *documents, int level, double weight, uint32 current,
					 double *ratio)
{
	NbmfSample train = {(const uint8 *) documents->half[0].data, documents->sizes[0],
						documents->count[0]};
	double best_cost = nbmf_documents_cost(documents, level, NULL, NULL) * weight;
	bytea *best = NULL;

	if (current != 0)
	{
		const NbmfDict *in_use = NULL;

		/* one that is damaged cannot be used: the new one takes its place */
		(void) nbmf_dict_for_encode(current, level, &in_use);

		if (in_use != NULL)
			best_cost = Min(best_cost, nbmf_documents_cost(documents, level, in_use, NULL) *
										   weight * (1 - REPLACE_GAIN));
	}

	for (int s = 0; s < lengthof(dictionary_sizes); s++)
	{
		/* libzstd wants several times the dictionary's size to learn from */
		if (s > 0 && dictionary_sizes[s] > (size_t) documents->half[0].len / 2)
			break;
		for (int k = 0; k < lengthof(cover_k); k++)
		{
			bytea *payload = palloc(VARHDRSZ + dictionary_sizes[s]);
			size_t len;
			double frames;

			CHECK_FOR_INTERRUPTS();
			if (nbmf_dict_train(&train, cover_k[k], COVER_D, level, VARDATA(payload),
								dictionary_sizes[s], &len) != NBMF_OK)
			{
				pfree(payload);
				continue;
			}
			SET_VARSIZE(payload, VARHDRSZ + len);
			frames = nbmf_documents_cost_with(documents, level, payload, NULL);
			if (frames * weight + (double) len < best_cost)
			{
				if (best != NULL)
					pfree(best);
				best = payload;
				best_cost = frames * weight + (double) len;
				*ratio = (double) documents->half[1].len / frames;
			}
			else
				pfree(payload);
		}
	}
	return best;
}

/*
 * Learn from the training half; NULL if there is too little to learn from.  What is
 * returned is malloc'd: nbmf_learned_free.
 */
static struct NeuralTrainer *
learn_half(const NbmfDocuments *documents)
{
	struct NeuralTrainer *learned = NULL;
	double bytes;
	NbmfSample train = spread_half(documents, 0, MODEL_BYTES, &bytes);
	NbmfStatus status = nbmf_model_learn(&train, nbmf_serve_interrupts, &learned);

	if (status == NBMF_ERR_INTERRUPTED)
		nbmf_throw_interrupt();
	if (status != NBMF_OK && status != NBMF_ERR_CONTENT)
		nbmf_report_damage(status, NULL);
	return learned;
}

/*
 * A model of at most so many slots, palloc'd.
 */
static bytea *
make_model(const struct NeuralTrainer *learned, double slots)
{
	NbmfModelParams params = {.slots = (size_t) slots, .interrupted = nbmf_serve_interrupts};
	void *stored;
	size_t len;
	NbmfStatus status = nbmf_model_make(learned, &params, &stored, &len);
	bytea *result;

	if (status == NBMF_ERR_INTERRUPTED)
		nbmf_throw_interrupt();
	if (status != NBMF_OK)
		nbmf_report_damage(status, NULL);
	result = palloc_extended(VARHDRSZ + len, MCXT_ALLOC_NO_OOM);
	if (result != NULL)
	{
		SET_VARSIZE(result, VARHDRSZ + len);
		memcpy(VARDATA(result), stored, len);
	}
	free(stored);
	if (result == NULL)
		nbmf_report_damage(NBMF_ERR_MEMORY, NULL);
	return result;
}

/*
 * What the judges take with a model and a dictionary (NULL: none); both may be smaller
 * for the other.
 */
static void
judge_model(int level, const NbmfDict *dict, bytea *payload, NbmfModelJudgement *judgement)
{
	NbmfModel model = {.id = NBMF_OBJECT_MAX};
	instr_time start;
	instr_time now;
	size_t size;
	NbmfStatus status = nbmf_model_memory(VARDATA(payload), VARSIZE(payload) - VARHDRSZ, &size);
	void *room;

	if (status != NBMF_OK)
		nbmf_report_damage(status, NULL);
	room = MemoryContextAllocHuge(CurrentMemoryContext, size + 64);
	model.image = (void *) TYPEALIGN(64, room);
	status = nbmf_model_load(VARDATA(payload), VARSIZE(payload) - VARHDRSZ,
							 unconstify(void *, model.image), size);
	if (status != NBMF_OK)
		nbmf_report_damage(status, NULL);
	INSTR_TIME_SET_CURRENT(start);
	judgement->with = sample_cost(&judgement->judges, level, dict, &model, &judgement->squares);
	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	judgement->seconds = INSTR_TIME_GET_DOUBLE(now);
	judgement->total = judgement->with * judgement->weight + VARSIZE(payload) - VARHDRSZ;
	pfree(room);
}

/*
 * Try a size of model.  False if it is worse than the best one before it, which
 * *judgement is about; the palloc'd *best changes where it is better.
 */
static bool
try_size(const struct NeuralTrainer *learned, double slots, int level, const NbmfDict *dict,
		 bytea **best, NbmfModelJudgement *judgement)
{
	NbmfModelJudgement tried = *judgement;
	bytea *payload;

	if (*best != NULL && slots == judgement->slots)
		return true;
	payload = make_model(learned, slots);
	tried.slots = slots;
	judge_model(level, dict, payload, &tried);
	if (*best != NULL && tried.total >= judgement->total)
	{
		pfree(payload);
		return false;
	}
	if (*best != NULL)
		pfree(*best);
	*best = payload;
	*judgement = tried;
	return true;
}

/*
 * Of the sizes of model the one that is best for a table, palloc'd.
 */
static bytea *
best_size(const struct NeuralTrainer *learned, int level, const NbmfDict *dict, double table_bytes,
		  NbmfModelJudgement *judgement)
{
	double slots[lengthof(bytes_per_slot)];
	bytea *best = NULL;
	int size;

	for (size = 0; size < lengthof(slots); size++)
		slots[size] = Min(Max(table_bytes / bytes_per_slot[size], SLOTS_MIN), SLOTS_MAX);
	try_size(learned, slots[FIRST_SIZE], level, dict, &best, judgement);

	/* smaller ones while they are better; where none is, larger ones */
	size = FIRST_SIZE;
	while (--size >= 0)
		if (!try_size(learned, slots[size], level, dict, &best, judgement))
			break;
	if (judgement->slots == slots[FIRST_SIZE])
		for (size = FIRST_SIZE + 1; size < lengthof(slots); size++)
			if (!try_size(learned, slots[size], level, dict, &best, judgement))
				break;
	return best;
}

/*
 * The model that saves most beside a dictionary (NULL: none), palloc'd, even if that is
 * less than its own size; NULL if there is too little to learn from.  The larger the
 * table, the more often is saved what a model saves, and the model is there once: so
 * several sizes are judged, made of one pass over the documents.
 */
bytea *
nbmf_documents_best_model(const NbmfDocuments *documents, int level, const NbmfDict *dict,
						  double table_bytes, NbmfModelJudgement *judgement)
{
	struct NeuralTrainer *learned = learn_half(documents);
	bytea *best = NULL;

	if (learned == NULL)
		return NULL;
	PG_TRY();
	{
		judgement->judges = spread_half(documents, 1, JUDGE_BYTES, &judgement->raw_bytes);
		judgement->weight = table_bytes / Max(judgement->raw_bytes, 1);
		judgement->without = sample_cost(&judgement->judges, level, dict, NULL, NULL);
		best = best_size(learned, level, dict, table_bytes, judgement);
	}
	PG_FINALLY();
	{
		nbmf_learned_free(learned);
	}
	PG_END_TRY();
	return best;
}

/*
 * Best model for the documents beside the object dictionary (0: none), palloc'd;
 * NULL if there is too little to learn from, or it does not pay.  current is the
 * model in use, 0 for none.
 */
bytea *
nbmf_documents_train_model(const NbmfDocuments *documents, int level, double table_bytes,
						   NbmfObjectIds current, double *ratio)
{
	const NbmfDict *dict = NULL;
	NbmfModelJudgement judgement;
	bytea *payload;
	double least;

	if (current.dictionary != 0)
		(void) nbmf_dict_for_encode(current.dictionary, level, &dict);
	payload = nbmf_documents_best_model(documents, level, dict, table_bytes, &judgement);
	if (payload == NULL)
		return NULL;
	least = judgement.without * judgement.weight;
	if (current.model != 0)
	{
		const NbmfModel *in_use = NULL;

		(void) nbmf_model_for(current.model, &in_use);
		if (in_use != NULL)
			least = Min(least, sample_cost(&judgement.judges, level, dict, in_use, NULL) *
								   judgement.weight * (1 - REPLACE_GAIN));
	}
	*ratio = judgement.raw_bytes / Max(judgement.with, 1);
	if (judgement.total < least)
		return payload;
	pfree(payload);
	return NULL;
}

/*
 * Size of a table with its TOAST and all that is below it, in bytes, and its
 * rows as ANALYZE or VACUUM last saw them; negative where they never did.
 */
void
nbmf_table_extent(Oid relid, double *bytes, double *rows)
{
	List *tree = find_all_inheritors(relid, AccessShareLock, NULL);
	ListCell *lc;

	*bytes = 0;
	*rows = -1;
	foreach (lc, tree)
	{
		HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(lfirst_oid(lc)));

		if (!HeapTupleIsValid(tuple))
			continue;
		if (RELKIND_HAS_STORAGE(((Form_pg_class) GETSTRUCT(tuple))->relkind))
		{
			float4 reltuples = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;

			*bytes += (double) DatumGetInt64(
				DirectFunctionCall1(pg_table_size, ObjectIdGetDatum(lfirst_oid(lc))));
			if (reltuples >= 0)
				*rows = Max(*rows, 0) + reltuples;
		}
		ReleaseSysCache(tuple);
	}
}
