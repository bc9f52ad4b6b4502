# _row_extras.pxi - residuals, epilogues, formats and stored statistics of row norms.
# SPDX-License-Identifier: MIT
#
# In three steps around the call: read (what the keywords mean), place (layouts), finish
# (what was written through temporary arrays). Nothing of the caller's is written before
# the last.


cdef int join_residual_bias(RowCall *call, Extras extras) except -1:
    """The one dtype of weight and bias holds the residual bias too."""
    call.args.format.params = joined_dtype(call.args.format.params, extras.used_bias)
    extras.used_bias = in_dtype(extras.used_bias, call.args.format.params)
    call.args.residual_bias = cnp.PyArray_DATA(extras.used_bias)
    call.direct = call.direct and extras.used_bias is extras.residual_bias
    return 0


cdef ndarray read_stored(
    str fn, str name, object value, ndarray x, Span *span
):
    """A stored mean or variance: packed, of the working type, shaped as statistics."""
    cdef c.fastnorm_dtype dtype = dtype_of(x)
    cdef c.fastnorm_dtype working = working_dtype(dtype)
    cdef ndarray shape_of = stats_array(x, span, cnp.NPY_UINT8)
    cdef ndarray a
    if isinstance(value, (list, tuple)):
        a = real_list(fn, name, value, dtype)
    else:
        a = as_base_array(fn, name, value)
    if not mixes(dtype_of(a), dtype):
        raise TypeError(f"{fn}: {name} has dtype {a.dtype}, {needed_dtypes(dtype)}")
    if not has_shape(a, cnp.PyArray_NDIM(shape_of), cnp.PyArray_DIMS(shape_of)):
        raise ValueError(
            f"{fn}: {name} has shape {np.shape(a)}, {np.shape(shape_of)} is needed: "
            "input's with 1 for each normalised axis"
        )
    if not cnp.PyArray_ISCARRAY_RO(a):
        a = native_copy(a)
    return in_dtype(a, working)


cdef int read_residual(
    str fn, RowCall *call, Span *span, ndarray x, Extras extras
) except -1:
    cdef ndarray total
    if extras.residual is None:
        for name, value in (
            ("residual_bias", extras.residual_bias),
            ("residual_out", extras.residual_out),
        ):
            if value is not None:
                raise ValueError(f"{fn}: {name} needs residual")
        return 0
    if span.inner > 1:
        raise ValueError(
            f"{fn}: residual needs the last axes to be the normalised ones"
        )
    extras.residual = host_view(fn, "residual", extras.residual)
    extras.used_residual = as_companion(fn, "residual", extras.residual, x)
    call.args.residual_dtype = dtype_of(extras.used_residual)
    if extras.residual_bias is not None:
        extras.residual_bias = host_view(fn, "residual_bias", extras.residual_bias)
        extras.used_bias = row_parameter(
            fn, "residual_bias", extras.residual_bias, x, span
        )
    if extras.residual_out is None:
        return 0
    total = as_written(fn, "residual_out", extras.residual_out)
    if dtype_of(total) != call.args.residual_dtype:
        raise TypeError(
            f"{fn}: residual_out has dtype {total.dtype}, residual's "
            f"{dtype_names[call.args.residual_dtype]} is needed"
        )
    if not has_shape(total, cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x)):
        raise ValueError(
            f"{fn}: residual_out has shape {np.shape(total)}, "
            f"input's {np.shape(x)} is needed"
        )
    extras.sum_view = total
    call.args.residual_out = cnp.PyArray_DATA(total)
    return 0


cdef int read_lengths(
    str fn, RowCall *call, Span *span, ndarray x, Extras extras
) except -1:
    cdef c.fastnorm_layer_norm_args *args = &call.args
    cdef bint keep = as_keep(fn, extras.masked, extras.lengths is not None)
    cdef size_t first = cnp.PyArray_DIM(x, span.first)
    if extras.lengths is None:
        return 0
    for name, given in (
        ("residual", extras.residual is not None),
        ("mean and var", extras.mean is not None),
        (f"{dtype_names[call.y]} without out_scale", extras.scale is not None),
    ):
        if given:
            raise ValueError(f"{fn}: lengths cannot be given with {name}")
    extras.used_lengths = as_lengths(
        fn, extras.lengths, np.shape(x)[:span.first], first
    )
    if cnp.PyArray_SIZE(x) == 0:
        return 0
    extras.used_lengths *= np.uintp(span.cols // first)
    args.lengths = <const size_t *>cnp.PyArray_DATA(extras.used_lengths)
    args.masked = c.FASTNORM_MASKED_KEEP if keep else c.FASTNORM_MASKED_ZERO
    return 0


cdef int read_row_extras(
    str fn, RowCall *call, Span *span, ndarray x, Extras extras
) except -1:
    """What the keywords mean for this x; layouts are settled by place_row_extras."""
    cdef c.fastnorm_layer_norm_args *args = &call.args
    args.exec_.flush_denormals = extras.flush_denormals
    if call.norm == RMS_NORM:
        call.mode = read_mode(fn, extras.mode)
    if read_format(
        fn, extras, args.dtype, call.norm < L2_NORM, &args.format, &call.y
    ):
        if span.inner > 1:
            raise ValueError(
                f"{fn}: out_dtype {dtype_names[call.y]} needs out_scale, but where the "
                "last axes are the normalised ones"
            )
        extras.scale = stats_array(x, span, cnp.NPY_FLOAT32)
        if span.cols == 0:
            extras.scale.fill(1.0)
        args.y_scale = <float *>cnp.PyArray_DATA(extras.scale)
    read_activation(fn, extras.activation, &args.epilogue)
    if extras.post_add is not None:
        extras.post_add = host_view(fn, "post_add", extras.post_add)
        extras.used_add = as_companion(fn, "post_add", extras.post_add, x)
        args.epilogue.post_add_dtype = dtype_of(extras.used_add)
    read_residual(fn, call, span, x, extras)
    if (extras.mean is None) != (extras.var is None):
        raise ValueError(f"{fn}: mean and var must come together")
    if extras.mean is not None:
        extras.mean = host_view(fn, "mean", extras.mean)
        extras.var = host_view(fn, "var", extras.var)
        extras.used_mean = read_stored(fn, "mean", extras.mean, x, span)
        extras.used_var = read_stored(fn, "var", extras.var, x, span)
        args.stored_mean = cnp.PyArray_DATA(extras.used_mean)
        args.stored_var = cnp.PyArray_DATA(extras.used_var)
        call.direct = (
            extras.used_mean is extras.mean and extras.used_var is extras.var
        )
    if call.norm == LAYER_NORM:
        read_lengths(fn, call, span, x, extras)
    return 0


cdef dict rms_modes = {
    "plain": c.FASTNORM_RMS_PLAIN,
    "cast_before_weight": c.FASTNORM_RMS_CAST_BEFORE_WEIGHT,
    "one_plus_weight": c.FASTNORM_RMS_ONE_PLUS_WEIGHT,
}


cdef c.fastnorm_rms_mode read_mode(str fn, object mode) except? c.FASTNORM_RMS_PLAIN:
    if not isinstance(mode, str):
        raise TypeError(f"{fn}: mode is {type(mode).__name__}, a str is needed")
    found = rms_modes.get(mode)
    if found is None:
        raise ValueError(f"{fn}: mode is {mode!r}, not one of {', '.join(rms_modes)}")
    return found


cdef int place_row_extras(str fn, RowCall *call, int first, Extras extras) except -1:
    cdef c.fastnorm_layer_norm_args *args = &call.args
    if extras.used_add is not None:
        if not find_row_stride(
            extras.used_add, first, &args.epilogue.post_add_stride
        ):
            extras.used_add = native_copy(extras.used_add)
        args.epilogue.post_add = cnp.PyArray_DATA(extras.used_add)
        call.direct = call.direct and extras.used_add is extras.post_add
    if extras.used_residual is None:
        return 0
    if not find_row_stride(extras.used_residual, first, &args.residual_stride):
        extras.used_residual = native_copy(extras.used_residual)
    args.residual = cnp.PyArray_DATA(extras.used_residual)
    call.direct = call.direct and extras.used_residual is extras.residual
    if extras.sum_view is None:
        return 0
    if not find_row_stride(extras.sum_view, first, &args.residual_out_stride):
        refuse_self_overlap(fn, "residual_out", extras.sum_view)
        write_sum_apart(call, extras)
        call.direct = False
    return 0


cdef int write_sum_apart(RowCall *call, Extras extras) except -1:
    """Let C write the sum to a temporary array."""
    if extras.sum_view is not None:
        extras.sum_written = fresh_as(extras.sum_view)
        call.args.residual_out = cnp.PyArray_DATA(extras.sum_written)
        call.args.residual_out_stride = 0
    return 0


cdef int finish_row_extras(Extras extras) except -1:
    if extras.sum_written is not None:
        np.copyto(extras.sum_view, extras.sum_written)
    return 0


cdef int refuse_row_overlaps(
    str fn, object out, ndarray y, object input, object weight, object bias,
    Extras extras,
) except -1:
    cdef tuple read = (("input", input), ("weight", weight), ("bias", bias))
    if extras is not None:
        read += (
            ("residual", extras.residual), ("residual_bias", extras.residual_bias),
            ("post_add", extras.post_add), ("mean", extras.mean), ("var", extras.var),
        )
        if extras.sum_view is not None:
            refuse_overlap(fn, "residual_out", extras.sum_view, read)
            read += (("residual_out", extras.sum_view),)
    if out is not None:
        refuse_overlap(fn, "out", y, read)
    return 0
