/*
 * nbmf.c
 *		Loading the library: each room sets itself up.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/guc.h"

#include "cas/cas.h"
#include "compat.h"
#include "stats/stats.h"
#include "store/store.h"
#include "tier/tier.h"
#include "type/type.h"

NBMF_MODULE_MAGIC;

extern void _PG_init(void);

void
_PG_init(void)
{
	nbmf_type_init();
	nbmf_store_init();
	nbmf_cas_init();
	nbmf_tier_init();
	nbmf_stats_init();
	nbmf_cas_stats_init();
	MarkGUCPrefixReserved("nbmf");
}
