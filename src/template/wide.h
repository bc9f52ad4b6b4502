/* template/wide.h - the words between dtype and double, for double itself.
 * SPDX-License-Identifier: MIT */

FN_WORD f64_vec f64_load_wide(const double *p) {
  return f64_load(p);
}
FN_WORD void f64_store_narrow(double *p, f64_vec x) {
  f64_store(p, x);
}
FN_WORD f64_vec f64_round(f64_vec x) {
  return x;
}
FN_WORD void f64_add_wide(double *p, f64_vec x) {
  f64_store(p, f64_add(f64_load(p), x));
}
