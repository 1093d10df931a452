/* static_tls.c: a library like many others: some of its thread-local data lies in the static block
 * that all libraries loaded at run time have to share. */
#ifndef STATIC_TLS_BYTES
#define STATIC_TLS_BYTES 100
#endif

__thread char static_tls_bytes[STATIC_TLS_BYTES] __attribute__((tls_model("initial-exec"))) = "x";

char *static_tls_use(void)
{
    return static_tls_bytes;
}
