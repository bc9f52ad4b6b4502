# __init__.py - bridges to other libraries; each module is imported only when asked for.
# SPDX-License-Identifier: MIT
"""Bridges to other libraries. Importing this package imports none of them."""
