# _control.pxi - instruction sets, threads, and what was built.
# SPDX-License-Identifier: MIT


cdef extern from *:
    """
    #if defined(__clang__)
    #define FASTNORM_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define FASTNORM_COMPILER "gcc " __VERSION__
    #else
    #define FASTNORM_COMPILER "unknown"
    #endif
    """
    const char *FASTNORM_COMPILER
    const int CYTHON_HEX_VERSION


cdef str environment_isa_sentence():
    cdef const char *value = getenv("FASTNORM_ISA")
    name = "" if value is NULL else value.decode(errors="replace")
    return (
        f"the environment variable FASTNORM_ISA is {name!r}, which is not an "
        f"instruction set that this machine can use ({', '.join(isas())})"
    )


def isa():
    """Name the instruction set that calls use now.

    Returns
    -------
    str
        ``"avx512"``, ``"avx2"``, ``"neon"`` or ``"portable"``. Results have the same
        bits with each.

    Raises
    ------
    RuntimeError
        If the environment variable ``FASTNORM_ISA`` names a set that is unknown or
        that this machine lacks, and `set_isa` has not chosen one since.

    See Also
    --------
    isas, set_isa

    Examples
    --------
    >>> import fastnorm
    >>> fastnorm.isa() in fastnorm.isas()
    True
    """
    cdef const char *name = c.fastnorm_isa()
    if name is NULL:
        raise RuntimeError(f"isa: {environment_isa_sentence()}")
    return name.decode()


def isas():
    """Name the instruction sets that this machine can use, best first.

    Returns
    -------
    tuple of str
        ``"portable"`` is always the last.

    Examples
    --------
    >>> import fastnorm
    >>> fastnorm.isas()[-1]
    'portable'
    """
    cdef size_t i = 0
    cdef const char *name
    names = []
    while True:
        name = c.fastnorm_isa_name(i)
        if name is NULL:
            return tuple(names)
        names.append(name.decode())
        i += 1


def set_isa(name):
    """Choose the instruction set for the whole process.

    Calls that run in other threads finish with the set that they began with.

    Parameters
    ----------
    name : str or None
        One of `isas`; None chooses the best.

    Raises
    ------
    ValueError
        If the set is unknown or this machine lacks it; nothing has changed then.
    TypeError
        If `name` is neither a string nor None.

    Examples
    --------
    >>> import fastnorm
    >>> fastnorm.set_isa("portable")
    >>> fastnorm.isa()
    'portable'
    >>> fastnorm.set_isa(None)
    """
    cdef c.fastnorm_status status
    cdef bytes encoded
    if name is None:
        status = c.fastnorm_set_isa(NULL)
    elif isinstance(name, str):
        encoded = name.encode()
        # A name with a NUL in it would be cut there by C.
        status = c.FASTNORM_ERROR_ISA
        if b"\0" not in encoded:
            status = c.fastnorm_set_isa(encoded)
    else:
        raise TypeError(f"set_isa: name is {type(name).__name__}, a str is needed")
    if status != c.FASTNORM_OK:
        raise ValueError(
            f"set_isa: {name!r} is not an instruction set that this machine can use "
            f"({', '.join(isas())})"
        )


def get_num_threads():
    """Return how many threads a call may use when its ``num_threads`` is None.

    Returns
    -------
    int
        At first the environment variable ``FASTNORM_NUM_THREADS`` if it holds a
        positive number, else the number of CPUs that the process may run on.

    Examples
    --------
    >>> import fastnorm
    >>> fastnorm.get_num_threads() >= 1
    True
    """
    return c.fastnorm_get_num_threads()


def set_num_threads(num_threads):
    """Set, for the whole process, how many threads a call may use.

    Parameters
    ----------
    num_threads : int or None
        At least 1. None restores the first value, see `get_num_threads`.

    Raises
    ------
    TypeError, ValueError
        If `num_threads` is not an integer, or less than 1; nothing has changed then.

    Notes
    -----
    The number bounds the threads, it does not change any result. Small work stays on
    the calling thread whatever it is.

    Examples
    --------
    >>> import fastnorm
    >>> fastnorm.set_num_threads(1)
    >>> fastnorm.get_num_threads()
    1
    >>> fastnorm.set_num_threads(None)
    """
    cdef int count = as_num_threads("set_num_threads", num_threads)
    check_status("set_num_threads", c.fastnorm_set_num_threads(count))


def get_include():
    """Return the directory that holds ``fastnorm.h``.

    Returns
    -------
    str
        For a compiler's ``-I``. The C API is then ``#include <fastnorm.h>``.

    Examples
    --------
    >>> import fastnorm, os
    >>> os.path.isfile(os.path.join(fastnorm.get_include(), "fastnorm.h"))
    True
    """
    package = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(package, "include")
    if os.path.isdir(installed):
        return installed
    # An editable install runs from the source tree, where the header has its own place.
    return os.path.join(os.path.dirname(package), "include")


cdef str cython_version():
    cdef int version = CYTHON_HEX_VERSION
    return f"{version >> 24}.{version >> 16 & 255}.{version >> 8 & 255}"


def show_config(mode="stdout"):
    """Show what was built, and what it uses on this machine.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        Print it, or return it.

    Returns
    -------
    dict or None
        With ``mode="dicts"`` the keys ``version``, ``isa`` (None if `isa` would
        raise), ``isas``, ``num_threads``, ``compiler``, ``cython`` and ``numpy``.

    Raises
    ------
    ValueError
        If `mode` is neither.

    Examples
    --------
    >>> import fastnorm
    >>> fastnorm.show_config(mode="dicts")["version"] == fastnorm.__version__
    True
    """
    cdef const char *name = c.fastnorm_isa()
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"show_config: mode is {mode!r}, not 'stdout' or 'dicts'")
    config = {
        "version": __version__,
        "isa": None if name is NULL else name.decode(),
        "isas": isas(),
        "num_threads": get_num_threads(),
        "compiler": FASTNORM_COMPILER.decode(),
        "cython": cython_version(),
        "numpy": np.__version__,
    }
    if mode == "dicts":
        return config
    for key, value in config.items():
        if key == "isas":
            value = ", ".join(value)
        elif key == "isa" and value is None:
            value = f"none: {environment_isa_sentence()}"
        print(f"{key + ':':<13}{value}")
