/*
 * type.h
 *		The SQL type nbmf: what its files share.
 *
 * An nbmf datum is a varlena whose data is a frame (codec/codec.h).  The file
 * nbmf_value.c is the edge between the two worlds: below it are status codes
 * and plain memory, above it palloc and ereport.
 */
#ifndef NBMF_TYPE_H
#define NBMF_TYPE_H

#include "codec/codec.h"
#include "compat.h"
#include "fmgr.h"
#include "store/store.h"

typedef struct varlena Nbmf;

/* Whole values, with a 1-byte or 4-byte header */
#define DatumGetNbmfPP(d)    ((Nbmf *) PG_DETOAST_DATUM_PACKED(d))
#define PG_GETARG_NBMF_PP(n) DatumGetNbmfPP(PG_GETARG_DATUM(n))
#define PG_RETURN_NBMF_P(x)  PG_RETURN_POINTER(x)

/*
 * nbmf_value.c
 */
extern Nbmf *nbmf_value_make(NbmfKind kind, const char *content, Size len, int level);
extern Nbmf *nbmf_value_encode(NbmfKind kind, NbmfTier tier, const char *content, Size len,
							   int level, NbmfObjectIds objects);
extern Nbmf *nbmf_value_from_text(const char *text, Size len, int level);
extern Nbmf *nbmf_value_from_floats(float4 *floats, int n, int level);
extern Nbmf *nbmf_value_reencode(Nbmf *value, int level);
extern char *nbmf_value_decode(Nbmf *value, Size lead, NbmfFrame *frame);
extern NbmfStatus nbmf_value_try_decode(Nbmf *value, Size lead, NbmfFrame *frame, char **result);
extern char *nbmf_value_text(Nbmf *value, Size lead, Size *text_len);
extern NbmfStatus nbmf_value_check(Nbmf *value, NbmfFrame *frame);
extern void nbmf_value_frame(Datum datum, NbmfFrame *frame);
extern void nbmf_value_whole_frame(Datum datum, NbmfFrame *frame);
extern NbmfStatus nbmf_value_parse(Datum datum, NbmfFrame *frame, Size *frame_len);
extern Size nbmf_stored_size(Size frame_len);
extern bool nbmf_serve_interrupts(void);
pg_noreturn extern void nbmf_throw_interrupt(void);
pg_noreturn extern void nbmf_report_damage(NbmfStatus status, const NbmfFrame *frame);
extern void nbmf_type_init(void);

/*
 * nbmf_defer.c: leaving compression to the row trigger
 */
#define NBMF_LEVEL_STORE (-1) /* in place of a level: do not compress */

extern int nbmf_defer_level(FunctionCallInfo fcinfo, int level);
extern Nbmf *nbmf_defer_note(FunctionCallInfo fcinfo, int level, Nbmf *value);
extern bool nbmf_defer_take(const NbmfFrame *frame, bool more);

/*
 * nbmf_io.c
 */
extern bool nbmf_is_type(Oid type);

/*
 * nbmf_vector.c: between float4s and the text of a real[]
 */
extern bool nbmf_vector_parse(const char *text, Size len, float4 **floats, int *n);
extern char *nbmf_vector_text(const char *floats, Size floats_len, Size lead, Size *text_len);

/*
 * nbmf_typmod.c: what nbmf(lossless, 17) says
 */
typedef enum NbmfMode
{
	NBMF_MODE_LOSSLESS = 1,
	NBMF_MODE_SEMANTIC = 2
} NbmfMode;

/* Level of a typmod; 0 where it says nothing, which means nbmf.zstd_level */
static inline int
nbmf_typmod_level(int32 typmod)
{
	return typmod < 0 ? 0 : Min(typmod & 0xff, NBMF_LEVEL_MAX);
}

extern NbmfMode nbmf_mode_from_name(const char *name);
extern int nbmf_check_level(int level);

#endif /* NBMF_TYPE_H */
