/* channels_totals.h - what channels add up to in their group, and what follows for all
 * of them: between channels_totals.c and channels_lanes.c.
 * SPDX-License-Identifier: MIT */
#ifndef FN_CHANNELS_TOTALS_H
#define FN_CHANNELS_TOTALS_H

#include "channels_backward.h"

/* What a channel adds to the totals. As many are added plainly as in a lane of the
 * moments. */
typedef struct fn_total_terms {
  double g, gt, t;
} fn_total_terms;
#define FN_TOTAL_CHAIN 8

FN_WORD void fn_totals_take(fn_group_totals *t, const fn_total_terms *some) {
  fn_sum_add(&t->g, some->g);
  fn_sum_add(&t->gt, some->gt);
  fn_sum_add(&t->t, some->t);
}

FN_WORD fn_total_terms fn_totals_value(const fn_group_totals *t) {
  return (fn_total_terms){fn_sum_value(&t->g), fn_sum_value(&t->gt),
                          fn_sum_value(&t->t)};
}

/* From sums over elements whose number has this inverse. */
FN_WORD fn_group_line fn_line_of(fn_statistics how, double inverse,
                                 const fn_total_terms *sum, double first) {
  fn_group_line line = {.first = first};
  if (how == FN_ABOUT_ZERO)
    line.slope = sum->gt; /* the sum of t * t is 1, not n */
  if (how == FN_OF_X) {
    line.mean = sum->g * inverse;
    line.mean_t = sum->t * inverse;
    line.slope = (sum->gt - line.mean * sum->t) * inverse;
  }
  return line;
}

/* As many channels, of whole groups, are taken at once: what they need is on the stack.
 */
#define FN_AT_ONCE 128

/* The second half of fn_block_finish() for channels [from, from + n) of the block, at
 * most FN_AT_ONCE: all of it, or nothing has changed, where one of them may leave the
 * range. Entries of the block from there up to a multiple of 16 are free. */
bool fn_channels_at_once(const fn_block_work *k, const fn_channel_limits *limits,
                         size_t from, size_t n);

#endif
