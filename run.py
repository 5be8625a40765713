"""Train one configuration, or search hyperparameters: python run.py --help"""

from cifar import endings

if __name__ == "__main__":
    endings.prepare()  # before the imports that take time

    from cifar.run import command_line

    command_line()
