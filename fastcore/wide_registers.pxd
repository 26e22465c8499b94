# TRADEUL_WIDE, for loops over blocks: the loader chooses wide registers where the machine has them, and the
# bits are the same. A resolver may not run in a sanitized build; gcc before 12 cannot choose by the level of
# an architecture. What uses it cimports this module, so that the definition comes before its own code.

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) \\
        && !defined(__SANITIZE_ADDRESS__)
    #if __GNUC__ >= 12
    #define TRADEUL_WIDE __attribute__((unused, target_clones("arch=x86-64-v4", "avx2", "default")))
    #else
    #define TRADEUL_WIDE __attribute__((unused, target_clones("avx2", "default")))
    #endif
    #else
    #define TRADEUL_WIDE __attribute__((unused))
    #endif
    """
