/* template/one.h - the words of doubles, of one double: for numbers of a single run, on
 * every instruction set.
 * SPDX-License-Identifier: MIT */

FN_WORD double one_splat(double x) {
  return x;
}
FN_WORD double one_add(double x, double y) {
  return x + y;
}
FN_WORD double one_sub(double x, double y) {
  return x - y;
}
FN_WORD double one_mul(double x, double y) {
  return x * y;
}
FN_WORD double one_div(double x, double y) {
  return x / y;
}
FN_WORD double one_fma(double x, double y, double z) {
  return fma(x, y, z);
}
FN_WORD double one_fnma(double x, double y, double z) {
  return fma(-x, y, z);
}
FN_WORD double one_sqrt(double x) {
  return sqrt(x);
}
FN_WORD double one_inverse(double x) {
  return x < 0 || x > 0 || x != x ? 1.0 / x : 0.0;
}
FN_WORD double one_max_zero(double x) {
  return x < 0 ? 0.0 : x;
}
FN_WORD double one_abs(double x) {
  return fabs(x);
}
FN_WORD bool one_all_le(double x, double y) {
  return x <= y;
}
