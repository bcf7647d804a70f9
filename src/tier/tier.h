/*
 * tier.h
 *		Columns under care: which class their values are of, which dictionary
 *		new values use, and the trigger that sees to it.
 */
#ifndef NBMF_TIER_H
#define NBMF_TIER_H

#include "commands/trigger.h"
#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "codec/codec.h"
#include "compat.h"
#include "store/store.h"

/* Tenants with a name this long or longer have no dictionary of their own */
#define NBMF_TENANT_MAX 128

/* Room for a class's name, a tenant's and what parts them: nbmf_make_scope */
#define NBMF_SCOPE_LEN (NAMEDATALEN + NBMF_TENANT_MAX + 1)

/* Who trains what with whom: nbmf.class.share */
typedef enum NbmfShare
{
	NBMF_SHARE_COLUMN, /* one dictionary for all tenants of the column */
	NBMF_SHARE_TENANT, /* one for each tenant with enough data */
	NBMF_SHARE_NONE    /* none */
} NbmfShare;

/* A row of nbmf.class */
typedef struct NbmfClass
{
	NameData name; /* key */
	NbmfShare share;
	int l1_level;
	int l2_level;
	bool edge_only;
	bool neural; /* maintained values use a model */
	bool has_l3; /* those of this age do: l3_after */
	Interval l3_after;
} NbmfClass;

/* What a column's trigger says: nbmf_attach.c */
/* Length of an attachment's key, in hexadecimal digits */
#define NBMF_KEY_LEN 16

typedef struct NbmfAttachment
{
	int32 id;
	char key[NBMF_KEY_LEN + 1]; /* in the trigger's arguments */
	AttrNumber body;
	AttrNumber class_by; /* these three: InvalidAttrNumber where not given */
	AttrNumber tenant_by;
	AttrNumber age_by;
	AttrNumber group_by;
} NbmfAttachment;

extern bool nbmf_attachment_of_trigger(Trigger *trigger, NbmfAttachment *attachment);
extern bool nbmf_attachment_of_column(Relation rel, AttrNumber body, NbmfAttachment *attachment);

extern AttrNumber nbmf_column_number(Relation rel, const char *name);
extern AttrNumber nbmf_body_column(Relation rel, const char *name);
extern Relation nbmf_open_owned(Oid relid, LOCKMODE lock);
extern void nbmf_attachment_delete(int32 id);
extern char *nbmf_quoted_relation(Oid relid);

/*
 * nbmf_sample.c: documents of a sample, in two halves: one trains, the other
 * judges
 */
typedef struct NbmfDocuments
{
	StringInfoData half[2];
	size_t *sizes[2];
	size_t count[2];
	size_t room[2];
} NbmfDocuments;

extern void nbmf_documents_init(NbmfDocuments *documents);
extern void nbmf_documents_add(NbmfDocuments *documents, const char *content, Size len);
extern double nbmf_documents_cost(const NbmfDocuments *documents, int level, const NbmfDict *dict,
								  double *squares);
extern double nbmf_documents_cost_with(const NbmfDocuments *documents, int level, bytea *payload,
									   double *squares);
extern bytea *nbmf_documents_train(const NbmfDocuments *documents, int level, double weight,
								   uint32 current, double *ratio);

/* What a model does for documents that it was not learned from */
typedef struct NbmfModelJudgement
{
	NbmfSample judges; /* those documents */
	double raw_bytes;
	double weight;  /* content of the table by that */
	double without; /* bytes of their frames without the model */
	double slots;   /* of the model, at most */
	double with;
	double squares; /* of those, their sum */
	double total;   /* of the table's frames with the model, and of the model */
	double seconds; /* of encoding them with it */
} NbmfModelJudgement;

extern bytea *nbmf_documents_best_model(const NbmfDocuments *documents, int level,
										const NbmfDict *dict, double table_bytes,
										NbmfModelJudgement *judgement);
extern bytea *nbmf_documents_train_model(const NbmfDocuments *documents, int level,
										 double table_bytes, NbmfObjectIds current, double *ratio);

extern void nbmf_table_extent(Oid relid, double *bytes, double *rows);

/* nbmf_catalog.c: the tables of the two that follow */
extern Relation nbmf_catalog_open(const char *name, LOCKMODE lock);
extern void nbmf_catalog_write(Relation rel, HeapTuple old, const Datum *values);

/*
 * nbmf_pass.c: how far maintenance of a relation's column has come
 */
typedef enum NbmfPhase
{
	NBMF_PHASE_IDLE,
	NBMF_PHASE_TRAINING,
	NBMF_PHASE_REENCODING
} NbmfPhase;

typedef struct NbmfTotals
{
	uint64 seen;     /* values looked at */
	uint64 replaced; /* re-encoded */
	uint64 skipped;  /* changed or locked meanwhile, or their new object is damaged */
	uint64 damaged;
	uint64 bytes_before; /* of those replaced */
	uint64 bytes_after;
} NbmfTotals;

/* A row of nbmf.pass */
typedef struct NbmfPass
{
	Oid relation; /* key, with body */
	AttrNumber body;
	int32 attachment;
	Oid filenode;           /* the relation's when the pass began */
	int64 settings;         /* nbmf_settings_fingerprint then */
	uint64 tried_before;    /* horizon of the last finished pass, 0: none */
	uint64 pass_before;     /* horizon of the one that runs, 0: none does */
	TimestampTz tried_at;   /* when that last finished pass began */
	BlockNumber next_block; /* of the pass that runs */
	BlockNumber blocks;
	NbmfPhase phase;
	TimestampTz started_at;
	NbmfTotals totals;
} NbmfPass;

extern bool nbmf_pass_lock(Oid relid, AttrNumber body);
extern void nbmf_pass_unlock(Oid relid, AttrNumber body);
extern void nbmf_pass_read(Oid relid, AttrNumber body, NbmfPass *pass);
extern void nbmf_pass_write(const NbmfPass *pass);
extern uint64 nbmf_pass_horizon(Snapshot snapshot);
extern bool nbmf_row_precedes(HeapTuple row, uint64 horizon);
extern void nbmf_pass_forget(int32 attachment);
extern void nbmf_pass_forget_dropped(void);

/*
 * nbmf_use.c: what dictionaries do for new values, and whether training is due
 */
typedef struct NbmfUse
{
	uint32 object; /* key in hash tables; 0: values without a dictionary */
	int64 values;
	int64 raw_bytes;
	int64 stored_bytes;
	double kept_ratio;     /* its ratio when training last kept it, 0: never */
	uint64 trained_before; /* of object 0: horizon of the last training, 0: none */
} NbmfUse;

extern bool nbmf_auto_train;

extern void nbmf_use_add(int32 attachment, const NbmfUse *seen);
extern void nbmf_use_trained(int32 attachment);
extern void nbmf_use_forget(int32 attachment);
extern uint64 nbmf_use_trained_before(int32 attachment);
extern bool nbmf_training_is_due(int32 attachment, double table_bytes);
extern void nbmf_use_init(void);

/* nbmf_train.c */
extern void nbmf_require_nonatomic(FunctionCallInfo fcinfo, const char *procedure);
extern void nbmf_require_all_rows(Relation rel, const char *procedure);
extern void nbmf_train_column(Relation rel, const NbmfAttachment *attachment);

/* nbmf_rowtrigger.c */
extern const NbmfClass *nbmf_class_of_row(const NbmfAttachment *attachment, HeapTuple row,
										  TupleDesc tupdesc);
extern Datum nbmf_encode_row(PG_FUNCTION_ARGS);

extern NbmfObjectIds nbmf_objects_of_row(const NbmfAttachment *attachment, HeapTuple row,
										 TupleDesc tupdesc, const NbmfClass *class);

/* nbmf_maintain.c */
extern void nbmf_tier_init(void);

/* nbmf_settings.c: what is stored about attachments, read through a cache */
extern const NbmfClass *nbmf_class_lookup(const char *name);
extern bool nbmf_attachment_is_known(const NbmfAttachment *attachment);
extern char *nbmf_attachment_class(int32 attachment);
extern NbmfObjectIds nbmf_current_objects(int32 attachment, const char *class_name,
										  const char *tenant);
extern void nbmf_make_scope(char scope[NBMF_SCOPE_LEN], const char *class_name, const char *tenant);
extern bool nbmf_any_class_ages(void);
extern bool nbmf_any_current_dictionary(int32 attachment, bool (*test)(uint32, double, void *),
										void *arg);
extern int64 nbmf_settings_fingerprint(int32 attachment);
extern void nbmf_settings_changed(void);

#endif /* NBMF_TIER_H */
