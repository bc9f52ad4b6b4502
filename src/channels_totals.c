/* channels_totals.c - from the sums of channels to those of their group.
 * SPDX-License-Identifier: MIT
 *
 * All in double, and relative to the first channel's weight * shift: a large mean of
 * the gradient costs nothing, and where weight * g is constant everything is exactly
 * 0. */
#include "channels_backward.h"

void fn_totals_add(fn_statistics how, const fn_channel_sums *c, fn_group_totals *t) {
  const double base = c->weight * c->shift;
  if (t->channels++ == 0)
    t->first = how == FN_OF_X ? base : 0.0;
  const double more = base - t->first;
  fn_sum_add(&t->g, more * c->n);
  fn_sum_add(&t->g, c->weight * c->d);
  fn_sum_add(&t->gt, more * c->t);
  fn_sum_add(&t->gt, c->weight * c->dt);
  fn_sum_add(&t->t, c->t);
}

void fn_totals_finish(fn_statistics how, double n, const fn_group_totals *t,
                      fn_group_line *line) {
  const double gt = fn_sum_value(&t->gt);
  *line = (fn_group_line){.first = t->first};
  if (how == FN_ABOUT_ZERO)
    line->slope = gt; /* the sum of t * t is 1, not n */
  if (how != FN_OF_X)
    return;
  line->mean = fn_sum_value(&t->g) / n;
  line->mean_t = fn_sum_value(&t->t) / n;
  line->slope = (gt - line->mean * fn_sum_value(&t->t)) / n;
}

double fn_line_rest(fn_statistics how, const fn_group_line *line,
                    const fn_channel_sums *c) {
  return how == FN_OF_X ? (c->weight * c->shift - line->first) - line->mean : 0.0;
}

double fn_line_weight(const fn_group_line *line, const fn_channel_sums *c) {
  return (c->dt - line->mean_t * c->d) + c->shift * (c->t - c->n * line->mean_t);
}

double fn_line_bias(const fn_channel_sums *c) {
  return c->n * c->shift + c->d;
}
