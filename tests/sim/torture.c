#include "tests/sim/torture.h"
int torture_all(bool is_traced)
{
    (void)is_traced;
    return 0;
}
