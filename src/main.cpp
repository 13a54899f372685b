#include <malloc.h>

#include "cli/run.h"
#include "cli/verbs.h"

int main(int argc, char** argv) {
    // oneDNN packs f32 operands into buffers of about a megabyte that live for one product. Set by
    // hand, the threshold stays where it is, and such buffers go back to the system; glibc would
    // learn to keep them, and its aligned allocations then leave holes of up to 25 MB.
    mallopt(M_MMAP_THRESHOLD, 512 << 10);
    return octavo::run({argv + (argc > 0 ? 1 : 0), argv + argc}, octavo::all_verbs(), stderr);
}
