/*
 * nbmf_settings.c
 *		What is stored about classes, attached columns and their dictionaries,
 *		read through a cache of the backend.
 *
 * The row trigger asks for these on every row, so the tables are read once and
 * again only when something has changed.  Whoever changes nbmf.class,
 * nbmf.attachment or nbmf.object sends a relcache invalidation for nbmf.object
 * (nbmf_settings_changed); receiving it makes all of the cache stale.
 *
 * The tables are read with the catalog snapshot, which sees what is committed:
 * a dictionary is used for new values as soon as the transaction that minted
 * it has ended, and never before.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "store/store.h"
#include "tier/tier.h"

/* Columns of the tables; the install script and this must agree */
#define Anum_class_name        1
#define Anum_class_share       3
#define Anum_class_l1_level    4
#define Anum_class_l2_level    5
#define Anum_class_edge_only   6
#define Anum_class_codec       8
#define Anum_class_l3_after    9
#define Anum_attachment_id     1
#define Anum_attachment_class  2
#define Anum_attachment_key    3
#define Anum_object_id         1
#define Anum_object_attachment 2
#define Anum_object_class      3
#define Anum_object_tenant     4
#define Anum_object_ratio      8
#define Anum_object_kind       10

typedef struct AttachmentEntry
{
	int32 id; /* key */
	NameData class_name;
	char key[NBMF_KEY_LEN + 1];
	HTAB *scopes;
} AttachmentEntry;

/* Class and tenant, and the newest objects for them */
typedef struct ScopeEntry
{
	char scope[NBMF_SCOPE_LEN]; /* key */
	NbmfObjectIds objects;
	double ratio; /* the dictionary's when it was trained */
} ScopeEntry;

static MemoryContext settings_context = NULL;
static HTAB *classes = NULL;
static HTAB *attachments = NULL;
static Oid settings_relation = InvalidOid;
static bool settings_valid = false;
static bool callback_registered = false;

static void
relcache_callback(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == settings_relation)
		settings_valid = false;
}

/*
 * Tell every backend that settings or objects have changed.  Takes effect at
 * commit.
 */
void
nbmf_settings_changed(void)
{
	CacheInvalidateRelcacheByRelid(nbmf_object_relation());
}

static Relation
open_table(const char *name)
{
	return nbmf_catalog_open(name, AccessShareLock);
}

static NbmfShare
share_from_name(const char *name)
{
	if (strcmp(name, "column") == 0)
		return NBMF_SHARE_COLUMN;
	if (strcmp(name, "tenant") == 0)
		return NBMF_SHARE_TENANT;
	return NBMF_SHARE_NONE;
}

static void
load_classes(void)
{
	Relation rel = open_table("class");
	TupleDesc tupdesc = RelationGetDescr(rel);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool isnull;
		bool found;
		Name name = DatumGetName(heap_getattr(tuple, Anum_class_name, tupdesc, &isnull));
		NbmfClass *entry = hash_search(classes, NameStr(*name), HASH_ENTER, &found);
		Datum l3_after;

		entry->share = share_from_name(
			TextDatumGetCString(heap_getattr(tuple, Anum_class_share, tupdesc, &isnull)));
		entry->l1_level = DatumGetInt32(heap_getattr(tuple, Anum_class_l1_level, tupdesc, &isnull));
		entry->l2_level = DatumGetInt32(heap_getattr(tuple, Anum_class_l2_level, tupdesc, &isnull));
		entry->edge_only =
			DatumGetBool(heap_getattr(tuple, Anum_class_edge_only, tupdesc, &isnull));
		entry->neural =
			strcmp(TextDatumGetCString(heap_getattr(tuple, Anum_class_codec, tupdesc, &isnull)),
				   "neural") == 0;
		l3_after = heap_getattr(tuple, Anum_class_l3_after, tupdesc, &isnull);
		entry->has_l3 = !isnull;
		if (entry->has_l3)
			entry->l3_after = *DatumGetIntervalP(l3_after);
		else
			memset(&entry->l3_after, 0, sizeof(entry->l3_after));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/*
 * Make the cache usable: empty it if it is stale, and read the classes.
 */
static void
prepare_settings(void)
{
	HASHCTL control = {0};

	if (settings_valid)
		return;
	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
		callback_registered = true;
	}
	if (settings_context != NULL)
		MemoryContextDelete(settings_context);
	settings_context =
		AllocSetContextCreate(CacheMemoryContext, "nbmf settings", ALLOCSET_DEFAULT_SIZES);
	control.hcxt = settings_context;
	control.keysize = NAMEDATALEN;
	control.entrysize = sizeof(NbmfClass);
	classes = hash_create("nbmf classes", 16, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	control.keysize = sizeof(int32);
	control.entrysize = sizeof(AttachmentEntry);
	attachments =
		hash_create("nbmf attachments", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	/* what arrives while reading makes it stale again */
	settings_relation = nbmf_object_relation();
	settings_valid = true;
	PG_TRY();
	{
		load_classes();
	}
	PG_CATCH();
	{
		settings_valid = false;
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/*
 * Settings of a class; NULL if there is no such class.  The result is valid
 * until the next call that reads settings.
 */
const NbmfClass *
nbmf_class_lookup(const char *name)
{
	prepare_settings();
	return strlen(name) < NAMEDATALEN ? hash_search(classes, name, HASH_FIND, NULL) : NULL;
}

/*
 * The key under which a class and tenant (NULL: all tenants) share a dictionary.
 */
void
nbmf_make_scope(char scope[NBMF_SCOPE_LEN], const char *class_name, const char *tenant)
{
	/* "all tenants" must not be mistaken for a tenant with an empty name */
	snprintf(scope, NBMF_SCOPE_LEN, "%s%s%s", class_name, tenant != NULL ? "\001" : "\002",
			 tenant != NULL ? tenant : "");
}

static void
load_scopes(AttachmentEntry *entry)
{
	Relation rel = open_table("object");
	TupleDesc tupdesc = RelationGetDescr(rel);
	Oid index = get_relname_relid("object_attachment", RelationGetNamespace(rel));
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	HASHCTL control = {0};

	control.hcxt = settings_context;
	control.keysize = sizeof(((ScopeEntry *) NULL)->scope);
	control.entrysize = sizeof(ScopeEntry);
	entry->scopes =
		hash_create("nbmf scopes", 16, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);

	ScanKeyInit(&key, Anum_object_attachment, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(entry->id));
	scan = systable_beginscan(rel, index, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		char scope[NBMF_SCOPE_LEN];
		uint32 object;
		ScopeEntry *current;
		bool isnull;
		bool found;
		Datum class_name = heap_getattr(tuple, Anum_object_class, tupdesc, &isnull);
		Datum tenant = heap_getattr(tuple, Anum_object_tenant, tupdesc, &isnull);
		char *kind;

		nbmf_make_scope(scope, NameStr(*DatumGetName(class_name)),
						isnull ? NULL : TextDatumGetCString(tenant));
		object = DatumGetUInt32(heap_getattr(tuple, Anum_object_id, tupdesc, &isnull));
		kind = TextDatumGetCString(heap_getattr(tuple, Anum_object_kind, tupdesc, &isnull));
		current = hash_search(entry->scopes, scope, HASH_ENTER, &found);
		if (!found)
			current->objects = (NbmfObjectIds){0, 0};
		if (strcmp(kind, "model") == 0)
			current->objects.model = Max(current->objects.model, object);
		else if (object > current->objects.dictionary)
		{
			current->objects.dictionary = object;
			current->ratio =
				DatumGetFloat8(heap_getattr(tuple, Anum_object_ratio, tupdesc, &isnull));
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static AttachmentEntry *
lookup_attachment(int32 id)
{
	AttachmentEntry *entry;
	Relation rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	NameData class_name = {{0}};
	char row_key[NBMF_KEY_LEN + 1] = "";
	bool isnull;

	prepare_settings();
	entry = hash_search(attachments, &id, HASH_FIND, NULL);
	if (entry != NULL)
		return entry;

	rel = open_table("attachment");
	ScanKeyInit(&key, Anum_attachment_id, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(id));
	scan = systable_beginscan(rel, nbmf_primary_key_index(rel), true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		class_name = *DatumGetName(
			heap_getattr(tuple, Anum_attachment_class, RelationGetDescr(rel), &isnull));
		strlcpy(row_key,
				TextDatumGetCString(
					heap_getattr(tuple, Anum_attachment_key, RelationGetDescr(rel), &isnull)),
				sizeof(row_key));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	/* reading may have made the cache stale, and what was read with it */
	if (!settings_valid)
		return lookup_attachment(id);
	entry = hash_search(attachments, &id, HASH_ENTER, NULL);
	entry->class_name = class_name;
	strlcpy(entry->key, row_key, sizeof(entry->key));
	entry->scopes = NULL;
	return entry;
}

/*
 * Is the row of nbmf.attachment there, and the one that the trigger means?  It
 * is not where only the table was restored, into a database that may use the
 * number for another column.
 */
bool
nbmf_attachment_is_known(const NbmfAttachment *attachment)
{
	AttachmentEntry *entry = lookup_attachment(attachment->id);

	return entry->key[0] != '\0' && strcmp(entry->key, attachment->key) == 0;
}

/*
 * Class of an attached column; "" if the attachment is not there, as in a
 * database to which only the table was restored.  A copy: what the cache holds
 * may be gone with the next look-up.
 */
char *
nbmf_attachment_class(int32 attachment)
{
	return pstrdup(NameStr(lookup_attachment(attachment)->class_name));
}

/*
 * Objects for new values of a class and tenant in a column (tenant NULL: of all
 * tenants).
 */
NbmfObjectIds
nbmf_current_objects(int32 attachment, const char *class_name, const char *tenant)
{
	AttachmentEntry *entry = lookup_attachment(attachment);
	char scope[NBMF_SCOPE_LEN];
	ScopeEntry *current = NULL;

	if (tenant == NULL || strlen(tenant) < NBMF_TENANT_MAX)
	{
		if (entry->scopes == NULL)
			load_scopes(entry);
		nbmf_make_scope(scope, class_name, tenant);
		current = hash_search(entry->scopes, scope, HASH_FIND, NULL);
	}
	return current != NULL ? current->objects : (NbmfObjectIds){0, 0};
}

/*
 * Does test(id, ratio at training, arg) hold for any dictionary that new values
 * of an attached column use?  It must not look at settings itself.
 */
bool
nbmf_any_current_dictionary(int32 attachment, bool (*test)(uint32, double, void *), void *arg)
{
	AttachmentEntry *entry = lookup_attachment(attachment);
	HASH_SEQ_STATUS scan;
	ScopeEntry *current;

	if (entry->scopes == NULL)
		load_scopes(entry);
	hash_seq_init(&scan, entry->scopes);
	while ((current = hash_seq_search(&scan)) != NULL)
		if (current->objects.dictionary != 0 &&
			test(current->objects.dictionary, current->ratio, arg))
		{
			hash_seq_term(&scan);
			return true;
		}
	return false;
}

/*
 * Does age decide anything for any class?
 */
bool
nbmf_any_class_ages(void)
{
	HASH_SEQ_STATUS scan;
	NbmfClass *class;

	prepare_settings();
	hash_seq_init(&scan, classes);
	while ((class = hash_seq_search(&scan)) != NULL)
		if (class->has_l3)
		{
			hash_seq_term(&scan);
			return true;
		}
	return false;
}

/*
 * A number that changes with anything that decides how aged values of an
 * attached column are encoded.
 */
int64
nbmf_settings_fingerprint(int32 attachment)
{
	AttachmentEntry *entry = lookup_attachment(attachment);
	HASH_SEQ_STATUS scan;
	ScopeEntry *current;
	NbmfClass *class;
	uint64 result;

	if (entry->scopes == NULL)
		load_scopes(entry);
	result = hash_bytes_extended((unsigned char *) NameStr(entry->class_name),
								 (int) strlen(NameStr(entry->class_name)), 0);
	/* sums: the order of a hash table is anything */
	hash_seq_init(&scan, entry->scopes);
	while ((current = hash_seq_search(&scan)) != NULL)
		result += hash_bytes_extended(
			(unsigned char *) current->scope, (int) strlen(current->scope),
			(uint64) current->objects.model << 32 | current->objects.dictionary);
	hash_seq_init(&scan, classes);
	while ((class = hash_seq_search(&scan)) != NULL)
	{
		uint64 seed = (uint64) class->share << 32 | (uint64) class->l2_level << 8 |
					  (uint64) class->neural << 1 | (uint64) class->has_l3;

		seed = hash_bytes_extended((unsigned char *) &class->l3_after, sizeof(Interval), seed);
		result += hash_bytes_extended((unsigned char *) NameStr(class->name),
									  (int) strlen(NameStr(class->name)), seed);
	}
	return (int64) result;
}
