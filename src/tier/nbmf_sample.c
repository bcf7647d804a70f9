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
#define MODEL_BYTES ((Size) 4 * 1024 * 1024)
#define JUDGE_BYTES (1024.0 * 1024)

/* A slot of a model takes about two bytes, stored */
#define BYTES_PER_SLOT 64

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
 * Documents of the judging half that a model, which is slow, is judged on:
 * JUDGE_BYTES of them.
 */
static NbmfSample
judges_of_model(const NbmfDocuments *documents, double *raw_bytes)
{
	NbmfSample judges = {(const uint8 *) documents->half[1].data, documents->sizes[1], 0};

	*raw_bytes = 0;
	while (judges.count < documents->count[1] && *raw_bytes < JUDGE_BYTES)
		*raw_bytes += (double) documents->sizes[1][judges.count++];
	return judges;
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
 * A model learned from the training half, palloc'd; NULL if there is too little
 * to learn from.  Of table_bytes of content a model saves some part, and it must
 * save its own size first: a small table gets a small model, of the contexts that
 * are seen most.
 */
bytea *
nbmf_documents_learn_model(const NbmfDocuments *documents, double table_bytes)
{
	NbmfSample train = {(const uint8 *) documents->half[0].data, documents->sizes[0], 0};
	NbmfModelParams params = {.slots = (size_t) Min(Max(table_bytes / BYTES_PER_SLOT, 1024), 1e6),
							  .interrupted = nbmf_serve_interrupts};
	Size bytes = 0;
	void *stored;
	size_t len;
	NbmfStatus status;
	bytea *result = NULL;

	while (train.count < documents->count[0] && bytes < MODEL_BYTES)
		bytes += documents->sizes[0][train.count++];
	status = nbmf_model_train(&train, &params, &stored, &len);
	if (status == NBMF_ERR_INTERRUPTED)
		nbmf_throw_interrupt();
	if (status == NBMF_ERR_CONTENT)
		return NULL;
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
 * What some of the judging half takes with a model and a dictionary (NULL:
 * none), and without the model; both may be smaller for the other.
 */
void
nbmf_documents_judge_model(const NbmfDocuments *documents, int level, const NbmfDict *dict,
						   bytea *payload, NbmfModelJudgement *judgement)
{
	NbmfModel model = {.id = NBMF_OBJECT_MAX};
	instr_time start;
	instr_time now;
	size_t size;
	NbmfStatus status = nbmf_model_memory(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload), &size);
	void *room;

	if (status != NBMF_OK)
		nbmf_report_damage(status, NULL);
	room = MemoryContextAllocHuge(CurrentMemoryContext, size + 64);
	model.image = (void *) TYPEALIGN(64, room);
	status = nbmf_model_load(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload),
							 unconstify(void *, model.image), size);
	if (status != NBMF_OK)
		nbmf_report_damage(status, NULL);
	judgement->judges = judges_of_model(documents, &judgement->raw_bytes);
	judgement->without = sample_cost(&judgement->judges, level, dict, NULL, NULL);
	INSTR_TIME_SET_CURRENT(start);
	judgement->with = sample_cost(&judgement->judges, level, dict, &model, &judgement->squares);
	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	judgement->seconds = INSTR_TIME_GET_DOUBLE(now);
	pfree(room);
}

/*
 * Best model for the documents beside the object dictionary (0: none), palloc'd;
 * NULL if there is too little to learn from, or it does not pay.  weight is how
 * often what it saves is saved: content of the table by content that judges; the
 * model is there once.  current is the model in use, 0 for none.
 */
bytea *
nbmf_documents_train_model(const NbmfDocuments *documents, int level, double table_bytes,
						   NbmfObjectIds current, double *ratio)
{
	const NbmfDict *dict = NULL;
	bytea *payload = nbmf_documents_learn_model(documents, table_bytes);
	NbmfModelJudgement judgement;
	double weight;
	double least;

	if (payload == NULL)
		return NULL;
	if (current.dictionary != 0)
		(void) nbmf_dict_for_encode(current.dictionary, level, &dict);
	nbmf_documents_judge_model(documents, level, dict, payload, &judgement);
	weight = table_bytes / Max(judgement.raw_bytes, 1);
	least = judgement.without * weight;
	if (current.model != 0)
	{
		const NbmfModel *in_use = NULL;

		(void) nbmf_model_for(current.model, &in_use);
		if (in_use != NULL)
			least = Min(least, sample_cost(&judgement.judges, level, dict, in_use, NULL) * weight *
								   (1 - REPLACE_GAIN));
	}
	*ratio = judgement.raw_bytes / Max(judgement.with, 1);
	if (judgement.with * weight + VARSIZE_ANY_EXHDR(payload) < least)
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
