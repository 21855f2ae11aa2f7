/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM sysgenid

#if !defined(SYSGENID_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define SYSGENID_TRACE_H

#include <linux/tracepoint.h>

#include "sysgenid.h"

TRACE_DEFINE_ENUM(SYSGENID_TRIGGER);
TRACE_DEFINE_ENUM(SYSGENID_RESTORE);
TRACE_DEFINE_ENUM(SYSGENID_RESUME);

/* The generation has changed, and outdated so many tracked watchers. */
TRACE_EVENT(sysgenid_bump,
	TP_PROTO(u32 generation, enum sysgenid_cause cause, unsigned int tracked),
	TP_ARGS(generation, cause, tracked),
	TP_STRUCT__entry(
		__field(u32, generation)
		__field(int, cause)
		__field(unsigned int, tracked)
	),
	TP_fast_assign(
		__entry->generation = generation;
		__entry->cause = cause;
		__entry->tracked = tracked;
	),
	TP_printk("generation=%u cause=%s tracked=%u",
		  __entry->generation,
		  __print_symbolic(__entry->cause,
				   { SYSGENID_TRIGGER, "trigger" },
				   { SYSGENID_RESTORE, "restore" },
				   { SYSGENID_RESUME, "resume" }),
		  __entry->tracked)
);

/* The current task has acknowledged the generation for a watcher. */
TRACE_EVENT(sysgenid_ack,
	TP_PROTO(u32 generation, bool tracked),
	TP_ARGS(generation, tracked),
	TP_STRUCT__entry(
		__field(u32, generation)
		__field(bool, tracked)
	),
	TP_fast_assign(
		__entry->generation = generation;
		__entry->tracked = tracked;
	),
	TP_printk("generation=%u tracked=%d",
		  __entry->generation, __entry->tracked)
);

#endif /* SYSGENID_TRACE_H */

/* Read again, from here, to make what the macros above describe. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
