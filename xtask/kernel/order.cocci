// SPDX-License-Identifier: GPL-2.0
/// The order that the driver promises, where no test on this processor would see
/// it broken: the kernel reseeds before programs are woken, and a program that
/// sees a new generation sees what was written before it.
// Confidence: High
virtual report

@woken@
position p;
@@
sysgenid_bump@p(...)
... when any
reseed(...)

@script:python depends on report@
p << woken.p;
@@
coccilib.report.print_report(p[0], "ERROR: programs are woken before the kernel reseeds")

@stored@
position p;
expression value;
symbol generation;
@@
(
 *generation@p = value
|
 WRITE_ONCE(*generation@p, value)
)

@script:python depends on report@
p << stored.p;
@@
coccilib.report.print_report(p[0], "ERROR: the page is stored without release order")
