/* batch_norm_masked.c - batch norm where not all positions take part.
 * SPDX-License-Identifier: MIT */
#include "batch_norm_work.h"
#include "check.h"
#include "threads.h"

#define AHEAD 4 /* samples */

fn_batch_work fn_batch_of_count(const fn_batch_work *w, size_t channel, size_t count) {
  fn_batch_work one = *w;
  if (count == 0)
    one.running.mean = NULL;
  if (one.running.mean)
    one.running.unbias = fn_mask_unbias(
        w->mask->weighted ? fn_mask_weight_all(w->mask, channel) : (double)count);
  return one;
}

static fn_masked_output output_of(const fn_batch_work *w) {
  return (fn_masked_output){w->mask, &w->f, w->a.x == w->y};
}

/* Stores wait for their lines. */
static void ask_for_sample(const fn_batch_work *w, const fn_runs *g,
                           const fn_output *out, size_t n) {
  for (size_t r = 0; n < g->segs && r < g->rows; r++)
    fn_mask_ask(fn_output_at(w->a.dtype, out, r, n, 0).y, g->len * w->f.sink.element);
}

void fn_batch_masked_apply(const fn_batch_work *w, size_t first, size_t sample,
                           const fn_run_apply *a, const fn_runs *g,
                           const fn_output *out) {
  const fn_masked_output o = output_of(w);
  for (size_t n = 0; n < AHEAD; n++)
    ask_for_sample(w, g, out, n);
  for (size_t n = 0; n < g->segs; n++) {
    const fn_output y = fn_output_at(w->a.dtype, out, 0, n, 0);
    ask_for_sample(w, g, out, n + AHEAD);
    fn_runs one = *g;
    one.x = fn_channels_at(&w->a, sample + n, first);
    one.segs = 1;
    fn_masked_apply_runs(&o, a, &one, &y, sample + n, first);
  }
}

/* ---- columns ---- */

typedef struct column_block {
  const fn_batch_work *w;
  size_t first, cols;
  const fn_column_parameters *p;
  fn_column_stats *s;
  fn_slow *slow;
  size_t rows; /* per piece */
} column_block;

/* Columns from c of the block on as runs of what takes part. */
static fn_runs columns_of(const column_block *b, size_t c, size_t n, size_t count,
                          fn_masked_source *s) {
  const fn_batch_work *w = b->w;
  return fn_channels_masked_runs(&w->a, w->mask, &w->f, b->first + c, n, count, s);
}

/* How many columns are read side by side as runs: those of one pattern. */
static size_t columns_beside(const column_block *b) {
  return fn_masked_most(b->w->mask);
}

static void set_empty(const column_block *b, size_t c) {
  fn_column_stats *s = b->s;
  fn_set(b->w->a.dtype, &s->hi, c, 0.0);
  fn_set(b->w->a.dtype, &s->lo, c, 0.0);
  s->var[c] = 1.0; /* nothing is applied; a scale in range keeps it from being slow */
  s->is_slow[c] = false;
}

/* The statistics of columns with a pattern of their own, or weighted: those of runs. */
static void column_task(void *context, size_t index) {
  const column_block *b = context;
  const fn_batch_work *w = b->w;
  const size_t beside = columns_beside(b), first = index * beside;
  const size_t n = b->cols - first < beside ? b->cols - first : beside;
  const size_t count = fn_mask_count_all(w->mask, b->first + first);
  fn_column_stats *s = b->s;
  fn_masked_source source;
  fn_group_stats found;
  for (size_t c = first; count == 0 && c < first + n; c++)
    set_empty(b, c);
  if (count == 0)
    return;
  const fn_runs run = columns_of(b, first, n, count, &source);
  fn_runs_stats(w->a.kernels, w->a.dtype, &run, w->eps, true, &found);
  for (size_t i = 0; i < n; i++) {
    const size_t c = first + i;
    s->is_slow[c] = found.any_slow && found.is_slow[i];
    if (s->is_slow[c]) { /* the run is read again where that is known of all columns */
      fn_set(w->a.dtype, &found.hi, i, 0.0);
      fn_set(w->a.dtype, &found.lo, i, 0.0);
      found.var[i] = 1.0;
    }
    fn_set(w->a.dtype, &s->hi, c, fn_get(w->a.dtype, &found.hi, i));
    fn_set(w->a.dtype, &s->lo, c, fn_get(w->a.dtype, &found.lo, i));
    s->var[c] = found.var[i];
  }
}

static void find_columns(const column_block *b, size_t count) {
  const fn_batch_work *w = b->w;
  fn_column_stats *s = b->s;
  s->any_slow = false;
  if (!w->training) {
    fn_batch_read_running(w, b->first, b->cols, &s->hi, s->var);
  } else if (!fn_mask_is_shared(w->mask) || w->mask->weighted) {
    const size_t beside = columns_beside(b);
    fn_parallel_for(w->a.exec, (b->cols + beside - 1) / beside,
                    w->a.batch * b->cols * w->a.element, column_task, (void *)b);
    for (size_t c = 0; c < b->cols; c++)
      s->any_slow |= s->is_slow[c];
  } else if (count > 0) {
    fn_masked_source source;
    const fn_table t = fn_channels_masked_table(&w->a, w->mask, &w->f, b->first,
                                                b->cols, count, &source);
    fn_channels_columns(&w->a, &t, w->eps, s);
  } else {
    for (size_t c = 0; c < b->cols; c++)
      set_empty(b, c);
  }
}

static void find_slow(const column_block *b, size_t c, size_t count) {
  const fn_batch_work *w = b->w;
  fn_masked_source source;
  if (!w->training) {
    fn_slow_given(fn_get(w->a.dtype, &b->s->hi, c), 0.0, b->s->var[c], w->eps,
                  &b->slow[c]);
  } else if (count > 0) {
    const fn_runs run = columns_of(b, c, 1, count, &source);
    fn_slow_stats(w->a.dtype, &run, w->eps, true, &b->slow[c]);
  }
}

/* Statistics to the caller and into the running ones. */
static void report_columns(const column_block *b, size_t count) {
  const fn_batch_work *w = b->w;
  const fn_column_stats *s = b->s;
  const fn_batch_work all = fn_batch_of_count(w, b->first, count);
  const bool shared = fn_mask_is_shared(w->mask) || !w->training;
  if (shared && !s->any_slow && (count > 0 || !w->training)) {
    fn_batch_report_all(&all, b->first, b->cols, &s->hi, w->training ? &s->lo : NULL,
                        s->var, &s->rstd);
    return;
  }
  for (size_t c = 0; c < b->cols; c++) {
    const size_t n = shared ? count : fn_mask_count_all(w->mask, b->first + c);
    const fn_batch_work one = fn_batch_of_count(w, b->first + c, n);
    fn_column_result found = {0.0, 0.0, 0.0};
    if (!w->training) {
      fn_column_given(w->a.dtype, w->eps, s, c, &found);
    } else if (n > 0 && s->any_slow && s->is_slow[c]) {
      find_slow(b, c, n);
      found = (fn_column_result){fn_slow_mean(&b->slow[c]), fn_slow_var(&b->slow[c]),
                                 fn_slow_rstd(&b->slow[c])};
    } else if (n > 0) {
      found = (fn_column_result){fn_get(w->a.dtype, &s->hi, c) +
                                     fn_get(w->a.dtype, &s->lo, c),
                                 s->var[c], fn_get(w->a.dtype, &s->rstd, c)};
    } else {
      b->slow[c] = (fn_slow){.exponent = 0}; /* its weight may make it slow */
    }
    fn_batch_report(&one, b->first + c, &found);
  }
}

static void apply_task(void *context, size_t index) {
  const column_block *b = context;
  const fn_batch_work *w = b->w;
  const fn_masked_output o = output_of(w);
  const fn_table t = fn_channels_table(&w->a, b->first, b->cols);
  const size_t begin = index * b->rows, positions = w->mask->positions;
  const size_t end = t.rows - begin < b->rows ? t.rows : begin + b->rows;
  for (size_t r = begin; r < end;) {
    const fn_masked_rows at = {r / positions, r % positions, b->first};
    const size_t left = positions - at.first, n = end - r < left ? end - r : left;
    const fn_table part = fn_table_rows(&t, w->a.dtype, r, n);
    const fn_output out = fn_batch_output(w, b->first, r);
    fn_masked_apply_table(&o, w->a.kernels, &part, &out, b->s, b->p, &at);
    r += n;
  }
}

void fn_batch_masked_columns(const fn_batch_work *w, size_t first, size_t cols) {
  const fn_channels *a = &w->a;
  const size_t count =
      fn_mask_is_shared(w->mask) ? fn_mask_count_all(w->mask, first) : 0;
  const size_t row_bytes = cols * fn_dtype_size(a->dtype);
  fn_column_array weight, bias;
  fn_column_stats s;
  fn_slow slow[FN_COLUMNS];
  const fn_column_parameters p = {
      .eps = w->eps,
      .centered = true,
      .given = !w->training,
      .weight = fn_vector_read(a->kernels, a->dtype, &w->weight, first, cols, &weight),
      .bias = fn_vector_read(a->kernels, a->dtype, &w->bias, first, cols, &bias),
      .slow = slow};
  column_block b = {.w = w,
                    .first = first,
                    .cols = cols,
                    .p = &p,
                    .s = &s,
                    .slow = slow,
                    .rows = FN_BATCH_PIECE / row_bytes};
  find_columns(&b, count);
  fn_columns_scale(a->kernels, a->dtype, cols, &p, &s);
  report_columns(&b, count);
  for (size_t c = 0; !w->training && s.any_slow && c < cols; c++)
    if (s.is_slow[c])
      find_slow(&b, c, 0);
  fn_parallel_for(a->exec, (a->batch + b.rows - 1) / b.rows, 2 * a->batch * row_bytes,
                  apply_task, &b);
}
