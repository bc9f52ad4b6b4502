/* simd/parts.h - the parts of a vec where there is one: the vec.
 * SPDX-License-Identifier: MIT */

#define FN_PARTS    1
#define FN_BESIDE   1
#define FN_ASIDE(v) ((void)0)

#define FN_MAP(T, S)                                                                   \
  typedef T##_vec T##_part;                                                            \
  FN_WORD T##_part T##_part_of(const T##_vec *v, int k) {                              \
    return v[k];                                                                       \
  }                                                                                    \
  FN_WORD T##_vec T##_whole(const T##_part *p) {                                       \
    return *p;                                                                         \
  }                                                                                    \
  FN_WORD T##_part T##_part_load(const S *p) {                                         \
    return T##_load(p);                                                                \
  }                                                                                    \
  FN_WORD void T##_part_store(S *p, T##_part x, bool stream) {                         \
    if (stream)                                                                        \
      T##_stream(p, x);                                                                \
    else                                                                               \
      T##_store(p, x);                                                                 \
  }                                                                                    \
  FN_WORD T##_part T##_part_add(T##_part x, T##_part y) {                              \
    return T##_add(x, y);                                                              \
  }                                                                                    \
  FN_WORD T##_part T##_part_sub(T##_part x, T##_part y) {                              \
    return T##_sub(x, y);                                                              \
  }                                                                                    \
  FN_WORD T##_part T##_part_mul(T##_part x, T##_part y) {                              \
    return T##_mul(x, y);                                                              \
  }                                                                                    \
  FN_WORD T##_part T##_part_fma(T##_part x, T##_part y, T##_part z) {                  \
    return T##_fma(x, y, z);                                                           \
  }
FN_MAP(f32, float)
FN_MAP(f64, double)
#undef FN_MAP
