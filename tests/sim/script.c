#include "tests/sim/script.h"
int script_run_all(const char *name, bool is_traced)
{
    (void)name;
    (void)is_traced;
    return 0;
}
