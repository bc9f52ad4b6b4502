/* masked_read.c - masks and lengths: what takes part, packed for the kernels.
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "masked.h"
#include "order.h"

/* Positions that are looked at together: do all of them take part, none or some? */
#define BLOCK 64
#define AHEAD 3 /* samples */

void fn_masked_begin(const fn_mask *m, const fn_formats *f, size_t channel,
                     ptrdiff_t x_stride, ptrdiff_t x_position_stride,
                     fn_masked_source *s) {
  s->source = f->source;
  s->source.piece = 0;
  s->source.positions = &s->where;
  s->where = (fn_positions){
      .kernels = m->kernels,
      .bytes = m->bytes ? m->bytes + (ptrdiff_t)channel * m->channel_stride : NULL,
      .lengths = m->lengths,
      .stride = m->stride,
      .position_stride = m->position_stride,
      .element = m->element,
      .weighted = m->weighted,
      .lengths_step = 1,
      .samples = m->samples,
      .positions = m->positions,
      .words = m->words_per_sample > 0 ? m->words : NULL,
      .words_step = m->words_per_sample,
      .width = 1,
      .x_stride = x_stride,
      .x_position_stride = x_position_stride};
}

void fn_masked_begin_sample(const fn_mask *m, const fn_formats *f, size_t sample,
                            size_t channel, ptrdiff_t x_position_stride,
                            fn_masked_source *s) {
  fn_masked_begin(m, f, channel, 0, x_position_stride, s);
  if (m->bytes)
    s->where.bytes += (ptrdiff_t)sample * m->stride;
  else
    s->where.lengths += sample;
  if (s->where.words)
    s->where.words += sample * m->words_per_sample;
  s->where.words_step = 0;
  s->where.samples = 1;
}

const fn_source *fn_masked_own(const fn_source *s, fn_masked_source *own) {
  if (!s || !s->positions)
    return s;
  own->source = *s;
  own->where = *s->positions;
  own->source.positions = &own->where;
  return &own->source;
}

static const unsigned char *bytes_at(const fn_positions *p) {
  return p->bytes + (ptrdiff_t)p->sample * p->stride +
         (ptrdiff_t)p->position * p->position_stride;
}

/* Positions from here on that a sample still takes part with, by its length. */
static size_t left_of_length(const fn_positions *p) {
  const size_t length = p->lengths[p->sample * p->lengths_step];
  return length > p->position ? length - p->position : 0;
}

static void skip(fn_positions *p, size_t positions, size_t taking_part) {
  p->position += positions;
  p->index += taking_part;
  if (p->position == p->positions)
    p->position = 0, p->sample++;
}

/* Past the first `wanted` of a block that take part. */
static void seek_in_block(fn_positions *p, size_t block, size_t wanted) {
  const uint64_t bits =
      fn_mask_bits(p->kernels, bytes_at(p), p->position_stride, p->element, block);
  size_t n = 0, found = 0;
  while (found < wanted)
    found += bits >> n++ & 1;
  skip(p, n, wanted);
}

/* To where position number q of those that take part is the next one. */
static void seek(fn_positions *p, size_t q) {
  if (q < p->index)
    p->index = p->sample = p->position = 0;
  for (size_t most = 16 * BLOCK; p->index < q;) {
    const size_t left = p->positions - p->position, wanted = q - p->index;
    if (!p->bytes) {
      const size_t n = left_of_length(p);
      skip(p, n <= wanted ? left : wanted, fn_smaller(n, wanted));
      continue;
    }
    const size_t block = fn_smaller(left, most);
    const size_t n = fn_mask_count_some(p->kernels, bytes_at(p), p->position_stride,
                                        p->element, block);
    if (n <= wanted)
      skip(p, block, n);
    else if (block > BLOCK)
      most = BLOCK;
    else
      seek_in_block(p, block, wanted);
  }
}

/* n elements of x, `step` bytes apart, side by side. */
#define LINE(bytes)                                                                    \
  case bytes:                                                                          \
    for (size_t k = 0; k < n; k++, x += step)                                          \
      memcpy(line + k * (bytes), x, bytes);                                            \
    break

static void read_line(const char *x, ptrdiff_t step, size_t size, size_t n,
                      unsigned char *line) {
  switch (size) { /* so that each copy is one instruction */
    LINE(1);
    LINE(2);
    LINE(4);
    LINE(8);
  }
}
#undef LINE

void fn_masked_gather(fastnorm_dtype working, const fn_source *s, const void *x,
                      ptrdiff_t step, size_t n, void *out) {
  const size_t size = s->element;
  if (step != 1 && n > 1) {
    unsigned char line[BLOCK * 8];
    for (size_t i = 0; i < n; i += BLOCK) {
      const size_t some = fn_smaller(n - i, BLOCK);
      const ptrdiff_t bytes = step * (ptrdiff_t)size;
      read_line((const char *)x + (ptrdiff_t)i * bytes, bytes, size, some, line);
      fn_masked_gather(working, s, line, 1, some,
                       fn_element(working, out, (ptrdiff_t)i));
    }
  } else if (s->gather.dtype == working) {
    memcpy(out, x, n * size);
  } else {
    s->kernels->gather(&s->gather, x, n, out);
  }
}

static const void *x_at(const fn_source *s, const void *x) {
  const fn_positions *p = s->positions;
  const ptrdiff_t i = (ptrdiff_t)p->sample * p->x_stride +
                      (ptrdiff_t)p->position * p->x_position_stride;
  return (const char *)x + i * (ptrdiff_t)s->element;
}

/* From here on: how many of at most `most` positions, one after another in one sample,
 * take part; blocks in which none does are passed over. 0: of the next *some only those
 * of *bits do. */
static size_t whole(fn_positions *p, size_t most, size_t *some, uint64_t *bits) {
  for (;;) {
    const size_t left = p->positions - p->position;
    if (!p->bytes) {
      const size_t n = left_of_length(p);
      if (n > 0)
        return fn_smaller(n, most);
      skip(p, left, 0);
      continue;
    }
    const unsigned char *bytes = bytes_at(p);
    size_t n = 0;
    while (n < left && n < most) {
      *some = fn_smaller(left - n, BLOCK);
      *bits = fn_mask_bits(p->kernels, bytes + (ptrdiff_t)n * p->position_stride,
                           p->position_stride, p->element, *some);
      if (*bits == 0 && n == 0)
        break;
      if (*bits != fn_low_bits(*some))
        return n;
      n += *some;
    }
    if (n > 0)
      return fn_smaller(n, most);
    skip(p, *some, 0);
  }
}

/* Those of the next `block` positions whose bit is set, up to n of them. */
static size_t gather_some(fastnorm_dtype working, const fn_source *s, const void *x,
                          size_t block, uint64_t bits, size_t n, void *out) {
  fn_positions *p = s->positions;
  double room[BLOCK], packed[BLOCK];
  const void *v = x_at(s, x);
  if (s->gather.dtype != working || p->x_position_stride != 1) {
    fn_masked_gather(working, s, v, p->x_position_stride, block, room);
    v = room;
  }
  if (n >= BLOCK) { /* room for what pack may write */
    const size_t count = s->kernels->pack(v, block, bits, out);
    skip(p, block, count);
    return count;
  }
  const size_t all = s->kernels->pack(v, block, bits, packed),
               count = fn_smaller(all, n);
  memcpy(out, packed, count * fn_dtype_size(working));
  if (count == all)
    skip(p, block, count);
  else
    seek_in_block(p, block, count);
  return count;
}

/* The same of `width` elements at each position; the first `lane` are not wanted. */
static size_t gather_wide(fastnorm_dtype working, const fn_source *s, const void *x,
                          size_t width, size_t lane, size_t n, void *out) {
  fn_positions *p = s->positions;
  size_t some, done = 0;
  uint64_t bits;
  size_t found = whole(p, (lane + n + width - 1) / width, &some, &bits);
  if (found == 0) { /* a block of both: its first stretch */
    const ptrdiff_t step = p->position_stride;
    const unsigned char *bytes = bytes_at(p);
    const size_t gap = fn_mask_find(bytes, step, p->element, 0, some, false);
    found = fn_mask_find(bytes, step, p->element, gap, some, true) - gap;
    skip(p, gap, 0);
  }
  if (p->x_position_stride == (ptrdiff_t)width) {
    const char *from = (const char *)x_at(s, x) + lane * s->element;
    done = fn_smaller(found * width - lane, n);
    fn_masked_gather(working, s, from, 1, done, out);
  } else {
    for (size_t k = 0, at = lane; k < found && done < n; k++, at = 0) {
      const ptrdiff_t i = (ptrdiff_t)k * p->x_position_stride + (ptrdiff_t)at;
      const size_t take = fn_smaller(width - at, n - done);
      fn_masked_gather(working, s, (const char *)x_at(s, x) + i * (ptrdiff_t)s->element,
                       1, take, fn_element(working, out, (ptrdiff_t)done));
      done += take;
    }
  }
  const size_t passed = (lane + done) / width;
  if (passed > 0)
    skip(p, passed, passed);
  return done;
}

static void ask_for_sample(const fn_source *s, const void *x, size_t sample) {
  const fn_positions *p = s->positions;
  if (sample >= p->samples || p->x_position_stride != (ptrdiff_t)p->width)
    return;
  const ptrdiff_t i = (ptrdiff_t)sample * p->x_stride;
  fn_mask_ask((const char *)x + i * (ptrdiff_t)s->element,
              p->positions * p->width * s->element);
}

void fn_positions_gather(fastnorm_dtype working, const fn_source *s, const void *x,
                         size_t i, size_t n, size_t width, void *out) {
  fn_positions *p = s->positions;
  seek(p, i / width);
  for (size_t ahead = p->sample; n > 0;) {
    size_t some, k;
    uint64_t bits;
    while (ahead < p->sample + AHEAD)
      ask_for_sample(s, x, ++ahead);
    if (width > 1) {
      k = gather_wide(working, s, x, width, i % width, n, out);
    } else if ((k = whole(p, n, &some, &bits)) > 0) {
      fn_masked_gather(working, s, x_at(s, x), p->x_position_stride, k, out);
      skip(p, k, k);
    } else {
      k = gather_some(working, s, x, some, bits, n, out);
    }
    out = fn_element(working, out, (ptrdiff_t)k);
    i += k;
    n -= k;
  }
}

/* One run: n elements, from position 0 of sample 0 on, which is at x. From out on there
 * is room for `room` of them, and what is behind the n will be written later. */
static void pack_run(fastnorm_dtype working, const fn_source *s, const void *x,
                     size_t n, size_t room, void *out) {
  const fn_positions *p = s->positions;
  const size_t per = (p->positions + BLOCK - 1) / BLOCK;
  size_t done = 0, asked = 0;
  for (size_t sample = 0; sample < p->samples && done < n; sample++) {
    const uint64_t *words = p->words + sample * p->words_step;
    const char *v =
        (const char *)x + (ptrdiff_t)sample * p->x_stride * (ptrdiff_t)s->element;
    while (asked < sample + AHEAD)
      ask_for_sample(s, x, ++asked);
    for (size_t k = 0; k < per && done < n; k++) {
      const size_t block = fn_smaller(p->positions - k * BLOCK, BLOCK);
      double packed[BLOCK];
      void *to = fn_element(working, out, (ptrdiff_t)done);
      const bool fits = room - done >= BLOCK; /* for what pack may write */
      const size_t count =
          fn_smaller(s->kernels->pack(v + k * BLOCK * s->element, block, words[k],
                                      fits ? to : packed),
                     n - done);
      if (!fits)
        memcpy(to, packed, count * s->element);
      done += count;
    }
  }
}

bool fn_positions_pack(fastnorm_dtype working, const fn_runs *g, void *out) {
  const fn_source *s = g->source;
  const fn_positions *p = s->positions;
  const size_t n = g->segs * g->len;
  if (!p->words || p->width > 1 || p->x_position_stride != 1 ||
      s->gather.dtype != working || g->at > 0)
    return false;
  for (size_t r = 0; r < g->rows; r++) {
    const ptrdiff_t i = (ptrdiff_t)r * g->row_stride;
    pack_run(working, s, (const char *)g->x + i * (ptrdiff_t)s->element, n,
             (g->rows - r) * n, fn_element(working, out, (ptrdiff_t)(r * n)));
  }
  return true;
}

bool fn_positions_adjacent(fastnorm_dtype working, const fn_runs *g,
                           fn_runs *in_place) {
  const fn_source *s = g->source;
  fn_positions *p = s->positions;
  size_t some;
  uint64_t bits;
  if (s->gather.dtype != working || p->width > 1 || p->x_position_stride != 1 ||
      g->rows > 1 || g->len < BLOCK)
    return false;
  seek(p, g->at);
  if (whole(p, g->len, &some, &bits) < g->len)
    return false;
  const char *begin = (const char *)g->x - (ptrdiff_t)(g->at * s->element);
  *in_place = (fn_runs){.x = x_at(s, begin), .rows = 1, .segs = 1, .len = g->len};
  return true;
}
