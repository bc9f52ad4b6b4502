/* stage.h - elements between the caller's arrays and the kernels that want the working
 * type.
 * SPDX-License-Identifier: MIT
 *
 * Where x is not an array of the working type, or something is added to it, a block of
 * it is gathered into a stage that the first-level cache holds; and where y is not one,
 * or something follows the norm, results are scattered from a stage. The kernels in
 * between are the same, and so are their bits. */
#ifndef FN_STAGE_H
#define FN_STAGE_H

#include "kernels.h"

#define FN_STAGE_BYTES 65536
typedef union fn_stage {
  _Alignas(64) float f32[FN_STAGE_BYTES / 4];
  double f64[FN_STAGE_BYTES / 8];
} fn_stage;

/* How many elements of the working type it holds; half of it fits the first-level
 * cache, and is what blocks of several runs or rows are made of. */
static inline size_t fn_stage_elements(fastnorm_dtype working) {
  return working == FASTNORM_FLOAT32 ? FN_STAGE_BYTES / 4 : FN_STAGE_BYTES / 8;
}

/* How x is read. Pointers of what is added are those of row 0, element 0. */
typedef struct fn_source {
  const fn_kernels *kernels;
  fn_gather gather;
  size_t element; /* bytes, of x */
  size_t residual_element, residual_bias_element;
  ptrdiff_t residual_stride, residual_out_stride; /* elements from row to row */
  /* not 0: element i of a run of one segment is at i % piece of piece number i /
   * piece */
  size_t piece;
  ptrdiff_t piece_stride;
  /* not NULL: of x only these positions, packed (see masked.h); of one thread */
  struct fn_positions *positions;
} fn_source;

/* For fn_runs.dtype: what the kernels can read where it is, as all there is to do is to
 * widen 16-bit elements. */
static inline fastnorm_dtype fn_source_dtype(const fn_source *s) {
  const bool halves =
      s && s->kernels->halves &&
      (s->gather.dtype == FASTNORM_FLOAT16 || s->gather.dtype == FASTNORM_BFLOAT16);
  return halves && !s->gather.residual && !s->gather.residual_bias &&
                 !s->gather.residual_out && !s->piece && !s->positions
             ? s->gather.dtype
             : FASTNORM_DEFAULT;
}

/* Whether the sum that goes to residual_out is what the norm is taken of, as it is not
 * rounded: then it need not be in the stage as well. */
bool fn_source_is_stage(fastnorm_dtype working, const fn_source *s);

/* Runs that fit the stage as runs in it, packed. `last`: residual_out is written. */
fn_runs fn_gather_runs(fastnorm_dtype working, const fn_runs *g, bool last,
                       void *stage);

/* The same for rows of a table: packed, with the same columns. */
fn_table fn_gather_table(fastnorm_dtype working, const fn_table *t, void *stage);

/* How y is written. */
typedef struct fn_sink {
  const fn_kernels *kernels;
  fn_scatter scatter; /* its post_add is not used: fn_output has it */
  size_t element, post_add_element;
} fn_sink;

/* An output of runs, beside the runs that are its input; or of a table, whose rows are
 * the segments. Without a sink y is an array of the working type, and nothing is added.
 * */
typedef struct fn_output {
  void *y;
  ptrdiff_t row_stride, seg_stride;
  const void *post_add; /* NULL, or of y's shape */
  ptrdiff_t post_add_row_stride, post_add_seg_stride;
  const fn_sink *sink;
  bool stream;
  const void *ahead; /* NULL, or what will be read next: see fn_scatter */
  size_t ahead_element;
} fn_output;

/* Whether an application can do all that its sink does. */
bool fn_output_is_direct(const fn_output *out, fastnorm_dtype working);

/* What it then adds; of a table the segments are its rows. */
fn_addend fn_output_addend(const fn_output *out, bool is_table);

/* The output that begins at this run, segment and element of it. */
fn_output fn_output_at(fastnorm_dtype working, const fn_output *out, size_t row,
                       size_t seg, size_t i);

/* The stage as an output of rows of segs * len, packed. */
fn_output fn_stage_output(void *stage, const fn_runs *g);

/* Staged runs, or the rows of a staged table, go to the output, which has a sink. */
void fn_scatter_runs(fastnorm_dtype working, const fn_runs *staged,
                     const fn_output *out);
void fn_scatter_table(fastnorm_dtype working, const fn_table *staged,
                      const fn_output *out);

/* n floats rounded to another type and back, in place. */
void fn_round_span(const fn_kernels *k, fastnorm_dtype dtype, size_t n, void *v);

/* Weight, bias or statistics of a caller, perhaps of another type. */
typedef struct fn_vector {
  const void *p; /* or NULL */
  fastnorm_dtype dtype;
  size_t element;
  bool plus_one; /* 1 is added, in the working type */
} fn_vector;

fn_vector fn_vector_of(const void *p, fastnorm_dtype dtype);

/* n numbers from `first` on in the working type: those of the caller if they are that
 * already, else in `room`; NULL if there are none. */
const void *fn_vector_read(const fn_kernels *k, fastnorm_dtype working,
                           const fn_vector *v, size_t first, size_t n, void *room);
bool fn_vector_is_plain(const fn_vector *v, fastnorm_dtype working);

/* n numbers of the working type go to a caller's array of another. */
void fn_vector_write(const fn_kernels *k, const fn_vector *v, size_t first, size_t n,
                     const void *from);

#endif
