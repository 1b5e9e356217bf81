/* The smallest program that uses a header: the compiler is told to include it first. C and C++ alike. */
int main(void)
{
    return 0;
}
