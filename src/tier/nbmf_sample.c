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
#include "utils/fmgrprotos.h"
#include "utils/syscache.h"

#include "tier/tier.h"
#include "type/type.h"

/* A new dictionary replaces one in use if it saves this much more */
#define REPLACE_GAIN 0.02

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
 * What the judging half takes in frames of a level, with a dictionary or (NULL)
 * without: the sum in bytes, and the sum of squares if squares is not NULL.
 */
double
nbmf_documents_cost(const NbmfDocuments *documents, int level, const NbmfDict *dict,
					double *squares)
{
	NbmfSample judge = {(const uint8 *) documents->half[1].data, documents->sizes[1],
						documents->count[1]};
	NbmfEncodeParams params = {.kind = NBMF_KIND_TEXT, .level = level, .dict = dict};
	NbmfWorkspace ws = {0};
	uint64_t bytes;
	double ignored;
	NbmfStatus status =
		nbmf_sample_cost(&ws, &params, &judge, &bytes, squares != NULL ? squares : &ignored);

	nbmf_workspace_free(&ws);
	if (status != NBMF_OK)
		nbmf_report_damage(status, NULL);
	CHECK_FOR_INTERRUPTS();
	return (double) bytes;
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
		const NbmfDict *in_use = nbmf_dict_for_encode(current, level);

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
