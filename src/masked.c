/* masked.c - masks, weights and lengths: the arguments, and how much takes part.
 * SPDX-License-Identifier: MIT */
#include "masked.h"

#include <float.h>

#include "dispatch.h"
#include "weighted.h"

bool fn_mask_is_given(const fastnorm_mask *args) {
  return args->mask || args->lengths || args->stride || args->channel_stride ||
         args->spatial_stride || args->positions || args->masked || args->weights ||
         args->weights_dtype;
}

/* That of an array, in bytes: 0 where nothing steps. What overflows here is refused by
 * fn_check_arrays(). */
static ptrdiff_t bytes_of_stride(ptrdiff_t stride, size_t extent, size_t element) {
  return extent == 1 ? 0 : (ptrdiff_t)((size_t)stride * element);
}

static fastnorm_status read_bytes(const fastnorm_mask *args, size_t batch,
                                  size_t channels, size_t spatial, fn_mask *m,
                                  fn_array *array) {
  const fastnorm_dtype dtype = args->weights_dtype;
  if (args->lengths || args->positions || (args->mask && (args->weights || dtype)))
    return FASTNORM_ERROR_MASK;
  if (dtype != FASTNORM_DEFAULT && dtype != FASTNORM_FLOAT32 &&
      dtype != FASTNORM_FLOAT64)
    return FASTNORM_ERROR_DTYPE;
  m->bytes = args->mask ? args->mask : args->weights;
  m->element = args->mask ? 1 : dtype == FASTNORM_FLOAT64 ? 8 : 4;
  m->stride = bytes_of_stride(args->stride, batch, m->element);
  m->channel_stride = bytes_of_stride(args->channel_stride, channels, m->element);
  m->position_stride = spatial == 1
                           ? m->stride
                           : bytes_of_stride(args->spatial_stride, spatial, m->element);
  m->samples = spatial == 1 ? 1 : batch;
  m->positions = spatial == 1 ? batch : spatial;
  *array = (fn_array){m->bytes,
                      {batch, channels, spatial},
                      {args->stride, args->channel_stride, args->spatial_stride},
                      m->element,
                      FN_INPUT,
                      false};
  return FASTNORM_OK;
}

static fastnorm_status read_lengths(const fastnorm_mask *args, size_t batch,
                                    size_t spatial, fn_mask *m, fn_array *array) {
  const size_t positions = args->positions ? args->positions : spatial;
  if (!args->lengths || args->stride || args->channel_stride || args->spatial_stride ||
      args->weights_dtype)
    return FASTNORM_ERROR_MASK;
  if (spatial == 1 ? batch % positions != 0 : positions != spatial)
    return FASTNORM_ERROR_MASK;
  m->lengths = args->lengths;
  m->samples = spatial == 1 ? batch / positions : batch;
  m->positions = positions;
  *array = (fn_array){args->lengths,  {1, 1, m->samples}, {0, 0, 1},
                      sizeof(size_t), FN_INPUT,           false};
  return FASTNORM_OK;
}

fastnorm_status fn_mask_read(const fastnorm_mask *args, size_t batch, size_t channels,
                             size_t spatial, fn_mask *m, fn_array *array) {
  *m = (fn_mask){.kernels = fn_dispatch(FASTNORM_FLOAT32),
                 .keep = args->masked == FASTNORM_MASKED_KEEP,
                 .channels = channels};
  if (!m->kernels)
    return FASTNORM_ERROR_ISA;
  if (args->masked != FASTNORM_MASKED_ZERO && args->masked != FASTNORM_MASKED_KEEP)
    return FASTNORM_ERROR_MASK;
  return args->mask || args->weights
             ? read_bytes(args, batch, channels, spatial, m, array)
             : read_lengths(args, batch, spatial, m, array);
}

size_t fn_mask_count_some(const fn_kernels *k, const unsigned char *bytes,
                          ptrdiff_t step, size_t element, size_t n) {
  size_t count = 0;
  if (step == 0)
    return fn_mask_takes(bytes, element) ? n : 0;
  if (element == 1 && step == 1)
    return k->count(bytes, n);
  if (element == 1)
    for (size_t i = 0; i < n; i++, bytes += step)
      count += *bytes != 0;
  else if (element == 4)
    for (size_t i = 0; i < n; i++, bytes += step)
      count += fn_mask_takes(bytes, 4);
  else
    for (size_t i = 0; i < n; i++, bytes += step)
      count += fn_mask_takes(bytes, 8);
  return count;
}

uint64_t fn_mask_bits(const fn_kernels *k, const unsigned char *bytes, ptrdiff_t step,
                      size_t element, size_t n) {
  uint64_t bits = 0;
  if (element == 1 && step == 1)
    return k->marks(bytes, n);
  if (element == 1)
    for (size_t i = 0; i < n; i++, bytes += step)
      bits |= (uint64_t)(*bytes != 0) << i;
  else if (element == 4)
    for (size_t i = 0; i < n; i++, bytes += step)
      bits |= (uint64_t)fn_mask_takes(bytes, 4) << i;
  else
    for (size_t i = 0; i < n; i++, bytes += step)
      bits |= (uint64_t)fn_mask_takes(bytes, 8) << i;
  return bits;
}

size_t fn_mask_find(const unsigned char *bytes, ptrdiff_t step, size_t element,
                    size_t i, size_t n, bool zero) {
  const uint64_t other = zero ? UINT64_C(0x0101010101010101) : 0;
  uint64_t eight;
  if (step == 0) /* the same from here to the end */
    return fn_mask_takes(bytes, element) == zero ? n : i;
  for (; element == 1 && step == 1 && i + 8 <= n; i += 8) {
    memcpy(&eight, bytes + i, 8); /* of a bool each, as most masks are */
    if (eight != other)
      break;
  }
  while (i < n && fn_mask_takes(bytes + (ptrdiff_t)i * step, element) == zero)
    i++;
  return i;
}

static const unsigned char *bytes_of(const fn_mask *m, size_t sample, size_t channel) {
  return m->bytes + (ptrdiff_t)sample * m->stride +
         (ptrdiff_t)channel * m->channel_stride;
}

bool fn_mask_is_stretch(const fn_mask *m, size_t sample, size_t channel, size_t *first,
                        size_t *count) {
  *first = 0;
  *count = m->bytes ? 0 : m->lengths[sample];
  if (!m->bytes)
    return true;
  const unsigned char *bytes = bytes_of(m, sample, channel);
  const ptrdiff_t step = m->position_stride;
  const size_t element = m->element;
  *first = fn_mask_find(bytes, step, element, 0, m->positions, false);
  const size_t end = fn_mask_find(bytes, step, element, *first, m->positions, true);
  *count = end - *first;
  return fn_mask_find(bytes, step, element, end, m->positions, false) == m->positions;
}

size_t fn_mask_count(const fn_mask *m, size_t sample, size_t channel) {
  if (!m->bytes)
    return m->lengths[sample];
  return fn_mask_count_some(m->kernels, bytes_of(m, sample, channel),
                            m->position_stride, m->element, m->positions);
}

size_t fn_mask_count_all(const fn_mask *m, size_t channel) {
  size_t count = 0;
  for (size_t n = 0; n < m->samples; n++)
    count += fn_mask_count(m, n, channel);
  return count;
}

/* The weights of a channel in a sample go to the total. `others`, if it is asked for,
 * becomes true if there are others than 0 and 1; false if there is one that is none. */
static bool add_weights(const fn_mask *m, size_t sample, size_t channel, bool *others,
                        fn_sum *total) {
  const unsigned char *p = bytes_of(m, sample, channel);
  const bool all_alike = m->position_stride == 0;
  double w[FN_WEIGHTS_BLOCK];
  bool good = true;
  for (size_t i = 0; i < m->positions; i += FN_WEIGHTS_BLOCK) {
    const size_t left = all_alike ? 1 : m->positions - i;
    const size_t n = left < FN_WEIGHTS_BLOCK ? left : FN_WEIGHTS_BLOCK;
    fn_weights_read(p + (ptrdiff_t)i * m->position_stride, m->position_stride,
                    m->element, n, w);
    for (size_t k = 0; others && k < n; k++) {
      good &= (w[k] >= 0.0) & (w[k] <= DBL_MAX);
      *others |= (w[k] > 0.0) & ((w[k] < 1.0) | (w[k] > 1.0));
    }
    if (all_alike) {
      fn_sum_add(total, w[0] * (double)m->positions);
      break;
    }
    fn_weights_sum(w, n, total);
  }
  return good;
}

/* What adds up to more than there is counts as the largest number. */
static double limited(const fn_sum *total) {
  const double value = fn_sum_value(total), most = DBL_MAX;
  return value <= most ? value : most;
}

double fn_mask_weight(const fn_mask *m, size_t sample, size_t channel) {
  fn_sum total = {0.0, 0.0};
  if (!m->weighted)
    return (double)fn_mask_count(m, sample, channel);
  add_weights(m, sample, channel, NULL, &total);
  return limited(&total);
}

double fn_mask_weight_all(const fn_mask *m, size_t channel) {
  fn_sum total = {0.0, 0.0};
  if (!m->weighted)
    return (double)fn_mask_count_all(m, channel);
  for (size_t n = 0; n < m->samples; n++)
    add_weights(m, n, channel, NULL, &total);
  return limited(&total);
}

/* The count of a channel in samples [first, end); that of weights is their sum, 0 and 1
 * or not. */
static double look_at(fn_mask *m, size_t channel, size_t first, size_t end,
                      bool *good) {
  fn_sum total = {0.0, 0.0};
  for (size_t n = first; n < end; n++)
    if (m->bytes && m->element > 1)
      *good &= add_weights(m, n, channel, &m->weighted, &total);
    else
      total.value += (double)fn_mask_count(m, n, channel);
  return limited(&total);
}

/* Lengths in place of bytes, where samples take part with their first positions. */
static void find_lengths(fn_mask *m) {
  if (!m->bytes || m->weighted || !fn_mask_is_shared(m) || m->samples > FN_MASK_SAMPLES)
    return;
  for (size_t n = 0; n < m->samples; n++) {
    size_t first;
    if (!fn_mask_is_stretch(m, n, 0, &first, &m->found[n]) ||
        (first > 0 && m->found[n] > 0))
      return;
  }
  m->bytes = NULL;
  m->lengths = m->found;
}

static void find_words(fn_mask *m) {
  const size_t per = (m->positions + 63) / 64;
  if (!m->bytes || m->weighted || !fn_mask_is_shared(m) ||
      per > FN_MASK_WORDS / m->samples)
    return;
  m->words_per_sample = per;
  for (size_t n = 0; n < m->samples; n++)
    for (size_t k = 0; k < per; k++) {
      const size_t i = 64 * k, left = m->positions - i;
      m->words[n * per + k] = fn_mask_bits(
          m->kernels, bytes_of(m, n, 0) + (ptrdiff_t)i * m->position_stride,
          m->position_stride, m->element, left < 64 ? left : 64);
    }
}

fastnorm_status fn_mask_look(fn_mask *m, bool by_sample, fn_mask_survey *found) {
  const size_t channels = fn_mask_is_shared(m) ? 1 : m->channels;
  const size_t pieces = by_sample ? m->samples : 1, per = m->samples / pieces;
  const double full = (double)(m->positions * per);
  bool good = true;
  *found = (fn_mask_survey){.all = true};
  for (size_t n = 0; m->lengths && n < m->samples; n++)
    if (m->lengths[n] > m->positions)
      return FASTNORM_ERROR_MASK;
  for (size_t n = 0; n < pieces; n++)
    for (size_t c = 0; c < channels; c++) {
      const double count = look_at(m, c, n * per, (n + 1) * per, &good);
      found->all &= count >= full && count <= full;
      found->single |= count > 0.0 && count <= 1.0;
      if (count > found->most)
        found->most = count;
    }
  found->all &= !m->weighted;
  if (good && !found->all) {
    find_lengths(m);
    find_words(m);
  }
  return good ? FASTNORM_OK : FASTNORM_ERROR_WEIGHT;
}
