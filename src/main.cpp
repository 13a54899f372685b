#include "cli/run.h"
#include "cli/verbs.h"

int main(int argc, char** argv) {
    return octavo::run({argv + (argc > 0 ? 1 : 0), argv + argc}, octavo::all_verbs(), stderr);
}
